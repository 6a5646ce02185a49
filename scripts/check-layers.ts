/** Who may import whom: reads scripts/layers.json and every source file, and says each broken rule in a sentence. */
import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

interface Rules {
  /** Lowest first; a folder may import from its own group and from those before it. */
  order: string[][];
  /** Files that every folder may import. */
  everywhere: string[];
  forbidden: { import: string; except?: string[]; because: string }[];
}

interface Import {
  line: number;
  name: string;
  typeOnly: boolean;
}

const importPattern =
  /\b(?:import|export)\s+(type\s)?(?:[\w*{}\s,$]+?\sfrom\s+)?(['"])([^'"\n]+)\2|\bimport\(\s*(['"])([^'"\n]+)\4/g;

/** Every broken rule below `root` as `file:line: sentence`; the rules are always this repository's. */
export function layerProblems(root: string): string[] {
  const rules = JSON.parse(readFileSync(join(import.meta.dirname, 'layers.json'), 'utf8')) as Rules;
  const files = globSync(['src/**/*.ts', 'shim/**/*.ts'], { cwd: root }).sort();
  const problems: string[] = [];
  const graph = new Map<string, string[]>();
  for (const file of files) {
    const text = withoutComments(readFileSync(join(root, file), 'utf8'));
    const edges: string[] = [];
    for (const { line, name, typeOnly } of importsOf(text)) {
      const at = `${file}:${line}`;
      for (const rule of rules.forbidden) {
        const excepted = rule.except?.some((folder) => file.startsWith(`${folder}/`)) ?? false;
        if (name === rule.import && !excepted) problems.push(`${at}: imports ${name}: ${rule.because}`);
      }
      if (!name.startsWith('.')) continue;
      const target = relative(root, resolve(root, dirname(file), name));
      if (!existsSync(join(root, target))) problems.push(`${at}: imports ${name}, which does not exist`);
      else if (!mayImport(rules, file, target))
        problems.push(`${at}: ${layerOf(rules, file)} must not import ${target}`);
      if (!typeOnly) edges.push(target);
    }
    graph.set(file, edges);
    text.split('\n').forEach((source, index) => {
      if (/\bconsole\.(assert|count|debug|dir|error|group|info|log|table|time|trace|warn)\w*\(/.test(source))
        problems.push(`${file}:${index + 1}: uses console: use the log`);
      if (/^export default\b/.test(source) && !file.startsWith('shim/gen/'))
        problems.push(`${file}:${index + 1}: default export: name it`);
    });
  }
  return [...problems, ...cycles(graph)];
}

function* importsOf(text: string): Generator<Import> {
  for (const match of text.matchAll(importPattern)) {
    const line = text.slice(0, match.index).split('\n').length;
    yield {
      line,
      name: match[3] ?? match[5] ?? '',
      typeOnly: match[1] !== undefined || namesTypesOnly(match[0]),
    };
  }
}

/** `import { type A, type B } from …`: gone at run time, like `import type`. */
function namesTypesOnly(statement: string): boolean {
  const names = /^import\s*\{([^}]*)\}/
    .exec(statement)?.[1]
    ?.split(',')
    .filter((name) => name.trim() !== '');
  return names?.every((name) => /^\s*type\s/.test(name)) ?? false;
}

/** Comments become spaces; line numbers stay. Strings are left alone as far as a `//` in an address needs it. */
function withoutComments(text: string): string {
  return text
    .replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, ' '))
    .replace(/(^|\s)\/\/.*$/gm, (_, before: string) => before);
}

function layerOf(rules: Rules, file: string): string | undefined {
  return rules.order.flat().find((folder) => file.startsWith(`${folder}/`));
}

function mayImport(rules: Rules, from: string, to: string): boolean {
  if (rules.everywhere.includes(to)) return true;
  if (rules.everywhere.includes(from)) return false;
  const rank = (file: string): number =>
    rules.order.findIndex((group) => group.some((folder) => file.startsWith(`${folder}/`)));
  return rank(to) >= 0 && rank(to) <= rank(from);
}

/** Circles of imports that exist at run time. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[] {
  const found: string[] = [];
  const done = new Set<string>();
  const walk = (file: string, path: readonly string[]): void => {
    const start = path.indexOf(file);
    if (start >= 0) {
      found.push(`${file}:1: import cycle: ${[...path.slice(start), file].join(' → ')}`);
      return;
    }
    if (done.has(file)) return;
    for (const next of graph.get(file) ?? []) walk(next, [...path, file]);
    done.add(file);
  };
  for (const file of graph.keys()) walk(file, []);
  return found;
}
