import { describe, expect, it } from 'vitest';
import { authFor, registryHost } from './image-pulls.js';

const LOGIN = { url: 'https://registry.example.com/', username: 'robot', password: 'secret' };

describe('registryHost', () => {
  it.each([
    ['worker', undefined],
    ['worker:1', undefined],
    ['team/worker:1', undefined],
    ['registry.example.com/team/worker:1', 'registry.example.com'],
    ['localhost/worker', 'localhost'],
    ['127.0.0.1:5000/worker@sha256:00', '127.0.0.1:5000'],
  ])('of %s is %s', (image, host) => {
    expect(registryHost(image)).toBe(host);
  });
});

describe('authFor', () => {
  it('shows the login to its own registry only', () => {
    expect(authFor('registry.example.com/faas/worker:1', LOGIN)).toEqual({
      username: 'robot',
      password: 'secret',
      serveraddress: 'registry.example.com',
    });
    expect(authFor('registry.example.com.evil.example/worker', LOGIN)).toBeUndefined();
    expect(authFor('worker:1', LOGIN)).toBeUndefined();
    expect(authFor('registry.example.com/faas/worker:1', undefined)).toBeUndefined();
  });
});
