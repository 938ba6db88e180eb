import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

export interface Wheel {
  /** As index and folder have it. */
  readonly file: string;
  readonly project: string;
  readonly bytes: Buffer;
  readonly sha256: string;
}

export interface WheelOptions {
  readonly version?: string;
  readonly requires?: readonly string[];
  /** Paths and contents of what it installs. */
  readonly files?: Readonly<Record<string, string | Buffer>>;
  /** Names of commands, and what each calls: `package.module:function`. */
  readonly scripts?: Readonly<Record<string, string>>;
}

/** A wheel of pure Python: a module of its name that tells its version, unless `files` says otherwise. */
export function wheel(name: string, { version = '1.0', requires = [], files, scripts = {} }: WheelOptions = {}): Wheel {
  const project = name.toLowerCase().replaceAll(/[-_.]+/g, '-');
  const module = project.replaceAll('-', '_');
  const info = `${module}-${version}.dist-info`;
  const needs = requires.map((one) => `Requires-Dist: ${one}\n`).join('');
  const commands = Object.entries(scripts).map(([command, target]) => `${command} = ${target}\n`);
  const contents: Record<string, string | Buffer> = {
    ...(files ?? { [`${module}/__init__.py`]: `VERSION = ${JSON.stringify(version)}\n` }),
    [`${info}/METADATA`]: `Metadata-Version: 2.1\nName: ${name}\nVersion: ${version}\n${needs}`,
    [`${info}/WHEEL`]: 'Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n',
    ...(commands.length > 0 && { [`${info}/entry_points.txt`]: `[console_scripts]\n${commands.join('')}` }),
  };
  const record = Object.entries(contents).map(([path, content]) => {
    const digest = createHash('sha256').update(content).digest('base64url');
    return `${path},sha256=${digest},${Buffer.byteLength(content)}\n`;
  });
  const bytes = zip({ ...contents, [`${info}/RECORD`]: `${record.join('')}${info}/RECORD,,\n` });
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { file: `${module}-${version}-py3-none-any.whl`, project, bytes, sha256 };
}

const LOCAL = 0x04034b50;
const CENTRAL = 0x02014b50;
const END = 0x06054b50;
const CENTRAL_BYTES = 46;
/** The first of January 1980. */
const DAY = 0x21;

/** An archive of files as they are. */
function zip(files: Readonly<Record<string, string | Buffer>>): Buffer {
  const [bodies, entries]: [Buffer[], Buffer[]] = [[], []];
  let offset = 0;
  for (const [path, content] of Object.entries(files)) {
    const [name, body] = [Buffer.from(path), Buffer.from(content)];
    const common = Buffer.alloc(26);
    common.writeUInt16LE(20, 0);
    common.writeUInt16LE(DAY, 8);
    common.writeUInt32LE(crc32(body), 10);
    common.writeUInt32LE(body.length, 14);
    common.writeUInt32LE(body.length, 18);
    common.writeUInt16LE(name.length, 22);
    const made = Buffer.alloc(2);
    made.writeUInt16LE(20, 0);
    const tail = Buffer.alloc(CENTRAL_BYTES - 32);
    tail.writeUInt32LE(offset, tail.length - 4);
    tail.writeUInt32LE((0o100644 << 16) >>> 0, tail.length - 8);
    entries.push(Buffer.concat([uint32(CENTRAL), made, common, tail, name]));
    bodies.push(Buffer.concat([uint32(LOCAL), common, name, body]));
    offset += bodies.at(-1)!.length;
  }
  const directory = Buffer.concat(entries);
  const end = Buffer.alloc(18);
  end.writeUInt16LE(entries.length, 4);
  end.writeUInt16LE(entries.length, 6);
  end.writeUInt32LE(directory.length, 8);
  end.writeUInt32LE(offset, 12);
  return Buffer.concat([...bodies, directory, uint32(END), end]);
}

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}
