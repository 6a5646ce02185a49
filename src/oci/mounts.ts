/** What a mount of config.json is, by its words. */

/** It shows a file or folder that is there already (config.md, "Mounts"). */
export function isBindMount({
  type,
  options,
}: {
  type?: string | undefined;
  options?: readonly string[] | undefined;
}): boolean {
  return type === 'bind' || options?.some((option) => option === 'bind' || option === 'rbind') === true;
}
