import { InvalidUpload } from '../functions/errors.js';
import { parseRequirements, type Requirements } from './requirements.js';
import { metadataIn } from './script-metadata.js';

/** What an upload says of its packages. */
export interface Said {
  /** The field, which counts before what the code says; null: none, whatever was before. Undefined: it isn't there. */
  readonly requirements: string | null | undefined;
  /** Undefined: as before. */
  readonly code: Buffer | undefined;
  /** Packages may come from URLs that it names. */
  readonly allowsUrls: boolean;
}

/**
 * `former`: the layer of the revision before, to which the same requirements have led. `named`: that layer if its
 * requirements were named by the field, since a block in its code went with the code.
 */
export type LayerChoice =
  | { readonly kind: 'former' | 'named' }
  | { readonly kind: 'none'; readonly from: 'field' | 'code' }
  | { readonly kind: 'build'; readonly requirements: Requirements; readonly from: 'field' | 'code' };

/** Throws {@link InvalidUpload} for a block that can't be read. */
export function layerChoice({ requirements, code, allowsUrls }: Said): LayerChoice {
  if (requirements === null) return { kind: 'none', from: 'field' };
  if (requirements !== undefined) {
    const parsed = parseRequirements(requirements);
    if ('fault' in parsed) throw new InvalidUpload('requirements', parsed.fault);
    if (parsed.urlFault !== undefined && !allowsUrls) throw new InvalidUpload('requirements', parsed.urlFault);
    return parsed.lines === ''
      ? { kind: 'none', from: 'field' }
      : { kind: 'build', requirements: parsed, from: 'field' };
  }
  if (code === undefined) return { kind: 'former' };
  // The characters of a block are the same in every encoding that Python reads.
  const metadata = metadataIn(code.toString('latin1').includes('# /// script') ? code.toString() : '');
  if (metadata === undefined) return { kind: 'named' };
  if ('fault' in metadata) throw new InvalidUpload('code', metadata.fault);
  if (metadata.urlFault !== undefined && !allowsUrls) throw new InvalidUpload('code', metadata.urlFault);
  if (metadata.lines === '' && metadata.requiresPython === '') return { kind: 'none', from: 'code' };
  return { kind: 'build', requirements: metadata, from: 'code' };
}
