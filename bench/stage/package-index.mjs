const PASSED_ON = ['PYTHON_INDEX_URL', 'SSL_CERT_FILE'];

/** Where managers get packages from, when it isn't the public index. */
export function indexEnvironment() {
  return Object.fromEntries(PASSED_ON.filter((name) => process.env[name]).map((name) => [name, process.env[name]]));
}

/** The same for uv by hand. */
export function uvEnvironment() {
  const { PYTHON_INDEX_URL: index, ...others } = indexEnvironment();
  return index === undefined ? others : { UV_DEFAULT_INDEX: index, ...others };
}
