import { createHash } from 'node:crypto';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { pack } from 'tar-stream';
import type { Wheel } from './wheels.js';

/** Builds a module that tells its version, after whatever else the code of the package does. */
const BACKEND = `
import os, subprocess, sys, time, zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    before_building()
    name = "NAME-1.0-py3-none-any.whl"
    info = "NAME-1.0.dist-info"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.writestr("NAME/__init__.py", 'VERSION = "1.0"\\n')
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: NAME\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        wheel.writestr(f"{info}/RECORD", f"NAME/__init__.py,,\\n{info}/RECORD,,\\n")
    return name
`;

/** A package that has to be built, by a program of its own which needs nothing else. `before`: Python that runs then. */
export async function sourceDistribution(name: string, before = 'pass'): Promise<Wheel> {
  const root = `${name}-1.0`;
  const files = {
    'PKG-INFO': `Metadata-Version: 2.1\nName: ${name}\nVersion: 1.0\n`,
    'pyproject.toml':
      `[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n` +
      `[project]\nname = "${name}"\nversion = "1.0"\n`,
    'backend.py': `${BACKEND.replaceAll('NAME', name)}\ndef before_building():\n    ${before}\n`,
  };
  const archive = pack();
  for (const [path, content] of Object.entries(files)) archive.entry({ name: `${root}/${path}` }, content);
  archive.finalize();
  const bytes = gzipSync(await buffer(archive));
  return { file: `${root}.tar.gz`, project: name, bytes, sha256: createHash('sha256').update(bytes).digest('hex') };
}
