import type { RegistryLogin } from '#libs/config/config.js';

export interface RegistryAuth {
  readonly username: string;
  readonly password: string;
  readonly serveraddress: string;
}

/** The registry's host in an image reference, by the engine's own rule; undefined for the engine's default registry. */
export function registryHost(image: string): string | undefined {
  const [first, ...rest] = image.split('/');
  if (first === undefined || rest.length === 0) return undefined;
  return /[.:]/.test(first) || first === 'localhost' ? first : undefined;
}

/** The login, only for the registry it belongs to: a password is never shown to another one. */
export function authFor(image: string, login: RegistryLogin | undefined): RegistryAuth | undefined {
  if (login === undefined) return undefined;
  const host = login.url.replace(/^[a-z]+:\/\//i, '').replace(/\/.*$/, '');
  if (registryHost(image) !== host) return undefined;
  return { username: login.username, password: login.password, serveraddress: host };
}
