/**
 * Options of an overlay that do not fit: mount(2) takes a page of text, fsconfig(2) 255 bytes a value, and an image of many layers has
 * more. The layers' paths are made shorter: relative to the folder that all lie in, else as descriptors.
 */

/** mount(2) takes at most a page of data, its NUL included. */
export const MOUNT_DATA_MAX = 4095;

/** First of the numbers that layers get as descriptors: above all others of a tape, below the usual limit of 1024. */
const FIRST_DESCRIPTOR = 512;
const LAST_DESCRIPTOR = 1023;

export interface ShortText {
  text: string;
  /** The working folder that names in the text start from. */
  folder?: string;
  /** Layers to be opened (O_PATH), each at its number. */
  open?: { path: string; descriptor: number }[];
}

/** Words as they are where they fit, else in the first shorter form that does; undefined: none fits. */
export function fitOptions(type: string, words: readonly string[]): ShortText | undefined {
  const whole = words.join(',');
  if (fits(whole)) return { text: whole };
  if (type !== 'overlay') return undefined;
  const index = words.findIndex((word) => word.startsWith('lowerdir='));
  const layers = splitLayers(words[index]?.slice('lowerdir='.length) ?? '');
  const withLayers = (names: readonly string[]): string =>
    words.map((word, at) => (at === index ? `lowerdir=${names.join(':')}` : word)).join(',');
  const folder = commonFolder(layers);
  if (folder !== undefined) {
    const text = withLayers(layers.map((layer) => layer.slice(layer === '' ? 0 : folder.length)));
    if (fits(text)) return { text, folder: plainPath(folder) };
  }
  const open: { path: string; descriptor: number }[] = [];
  const names = layers.map((layer) => {
    // Between two colons that stand for "data only".
    if (layer === '') return '';
    const descriptor = FIRST_DESCRIPTOR + open.length;
    open.push({ path: plainPath(layer), descriptor });
    return `/proc/self/fd/${descriptor}`;
  });
  const text = withLayers(names);
  return fits(text) && open.length <= LAST_DESCRIPTOR - FIRST_DESCRIPTOR ? { text, open } : undefined;
}

const fits = (text: string): boolean => Buffer.byteLength(text) <= MOUNT_DATA_MAX;

/** overlayfs separates layers with colons and escapes its own with a backslash, which stays (`plainPath`). */
export function splitLayers(text: string): string[] {
  return text.split(/(?<!\\):/);
}

/** A path without overlayfs's escapes. */
export const plainPath = (path: string): string => path.replaceAll(/\\(.)/g, '$1');

/** With its slash at the end; undefined where a path is relative. */
function commonFolder(layers: readonly string[]): string | undefined {
  const paths = layers.filter((layer) => layer !== '');
  let common = paths[0] ?? '';
  for (const path of paths) {
    if (!path.startsWith('/')) return undefined;
    let length = 0;
    while (length < common.length && common[length] === path[length]) length++;
    common = common.slice(0, length);
  }
  const end = common.lastIndexOf('/');
  return end < 0 ? undefined : common.slice(0, end + 1);
}
