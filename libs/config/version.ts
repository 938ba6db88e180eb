/** Of all parts: package.json, the worker's pyproject.toml and the OpenAPI document name the same. */
export const VERSION = '0.1.0';
