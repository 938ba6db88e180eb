// The generated client names types of the browser's global scope that Node's own types keep in a module.
type BodyInit = import('undici').BodyInit;
