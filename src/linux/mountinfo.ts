/** The mounts of a process as /proc/PID/mountinfo lists them (proc_pid_mountinfo(5)). */

export interface MountInfo {
  id: number;
  /** What of the filesystem is mounted. */
  root: string;
  /** Where, as the process sees it. */
  place: string;
  type: string;
  /** Of the filesystem, not of this mount. */
  options: string[];
}

/** In the order of the text, the youngest last; lines that are none are passed over. */
export function parseMountinfo(text: string): MountInfo[] {
  return text.split('\n').flatMap((line) => {
    // "36 35 98:0 ROOT PLACE rw,noatime [optional fields] - TYPE SOURCE OPTIONS"
    const [left = '', right] = line.split(' - ', 2);
    const [id, , , root, place] = left.split(' ');
    if (right === undefined || root === undefined || place === undefined) return [];
    const [type = '', , options = ''] = right.split(' ');
    return [
      {
        id: Number(id),
        root: decodeOctal(root),
        place: decodeOctal(place),
        type,
        options: options.split(','),
      },
    ];
  });
}

/** The kernel writes space, tab, newline and backslash in these fields as three octal digits. */
function decodeOctal(field: string): string {
  return field.replaceAll(/\\([0-7]{3})/g, (_, digits: string) =>
    String.fromCharCode(Number.parseInt(digits, 8)),
  );
}
