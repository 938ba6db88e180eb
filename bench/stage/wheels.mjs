import { execFile } from 'node:child_process';
import { chmod, mkdtemp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';

/** Of bytes that can't be packed smaller. */
const MAKE = `import os, sys, zipfile
folder, wheels = sys.argv[1], [one.split("=") for one in sys.argv[2:]]
for name, size in wheels:
    info, record = f"{name}-1.0.dist-info", ""
    files = {
        f"{name}/__init__.py": b"",
        f"{name}/data.bin": os.urandom(int(size)),
        f"{info}/METADATA": f"Metadata-Version: 2.1\\nName: {name}\\nVersion: 1.0\\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\\nGenerator: bench\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\\n" for path in [*files, f"{info}/RECORD"]).encode()
    path = os.path.join(folder, f"{name}-1.0-py3-none-any.whl")
    with zipfile.ZipFile(path, "w") as archive:
        for path_in, content in files.items():
            archive.writestr(path_in, content)
    os.chmod(path, 0o644)
`;

/** A folder of wheels with a module of their names each and so many bytes. */
export async function makeWheels({ folder, python }, sizes) {
  const wheels = await mkdtemp(join(folder, 'wheels-'));
  await chmod(wheels, 0o755);
  const named = Object.entries(sizes).map(([name, size]) => `${name}=${size}`);
  await promisify(execFile)(python, ['-c', MAKE, wheels, ...named]);
  return wheels;
}
