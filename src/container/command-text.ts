/** A program and its arguments as people read them. */

/** As much as a table has room for. */
const LONGEST = 120;

/** As a shell would take it, in one line of bounded length. */
export function commandText(args: readonly string[]): string {
  let text = '';
  for (const arg of args) {
    text += text === '' ? quoted(arg) : ` ${quoted(arg)}`;
    if (text.length > LONGEST) return `${[...text].slice(0, LONGEST - 1).join('')}…`;
  }
  return text;
}

function quoted(arg: string): string {
  // What is no text to people would move the cursor, or more.
  const line = arg.slice(0, LONGEST + 1).replace(/[\u0000-\u001f\u007f-\u009f]/g, '?');
  return /^[\w@%+=:,./-]+$/.test(line) ? line : `'${line.replaceAll("'", `'\\''`)}'`;
}
