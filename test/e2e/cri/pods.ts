/** Pods through containerd's CRI plugin: the same script for each handler, compared field by field with containerd's own shim. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CriNode, type Handler } from '../../support/cri/node.ts';
import type { ContainerdVersion } from '../../support/debs.ts';
import { namesOfTheRuntime } from './allowed-differences.ts';
import { type Fields, playPods } from './scenario.ts';

/** `CRI_PODS=20`: so many pods under every handler of every containerd. */
const asked = Number(process.env['CRI_PODS'] ?? 0);

export function podSuite(version: ContainerdVersion, pods: Partial<Record<Handler, number>>): void {
  describe(`pods of containerd ${version}`, () => {
    let node: CriNode;
    let oracle: Fields;
    const counts = Object.entries(pods).map(([name, count]) => [name as Handler, asked || count] as const);
    const largest = Math.max(...counts.map(([, count]) => count));

    before(async () => {
      node = await CriNode.start(version);
    });
    after(async () => {
      await node?.[Symbol.asyncDispose]();
    });

    test("with containerd's own shim, for comparison", async (context) => {
      for (let round = 1; ; round++) {
        oracle = await playPods(node, 'runc', Math.min(asked || 4, largest));
        const untold = withoutDelete(oracle);
        if (untold.length === 0) return;
        assert.ok(round < 5, `the deletion of ${untold} was never told`);
        context.diagnostic(`it ended before it had told the deletion of ${untold}: played once more`);
      }
    });

    for (const [handler, count] of counts) {
      test(`${count} pods with the handler ${handler}`, async () => {
        const fields = await playPods(node, handler, count).catch((cause: unknown) => {
          throw new Error(`${String(cause)}\n${node.containerd.tail()}`, { cause });
        });
        assert.equal(fields['pods left'], '0');
        for (let index = 0; index < count; index++) {
          const name = `pod ${index}.after a restart`;
          assert.equal(fields[`${name}.server.exit_code`], '7', node.containerd.tail());
          assert.equal(fields[`${name}.job.exit_code`], String(index % 200));
          assert.equal(fields[`${name}.state`], 'SANDBOX_READY');
        }
        assert.equal(fields['out of memory.reason'], 'OOMKilled');
        assert.deepEqual(differences(fields, oracle), []);
      });
    }
  });
}

/** Those of whose deletion containerd was not told; containerd's own shim may lose its last event under load. */
function withoutDelete(fields: Fields): string[] {
  const named = (name: string): string => name.slice(0, name.lastIndexOf('.'));
  const events = Object.entries(fields).filter(([name]) => /^pod \d+\.\w+\.events\./.test(name));
  const told = events.filter(([, event]) => event?.startsWith('/tasks/delete ')).map(([name]) => named(name));
  return [...new Set(events.map(([name]) => named(name)))].filter((name) => !told.includes(name));
}

/** One line for each field of the other that is not the same. */
function differences(fields: Fields, other: Fields): string[] {
  const last = Math.max(...Object.keys(other).map((name) => Number(/^pod (\d+)/.exec(name)?.[1] ?? 0)));
  const compared = (name: string): boolean =>
    Number(/^pod (\d+)/.exec(name)?.[1] ?? 0) <= last && !namesOfTheRuntime.some((one) => one.test(name));
  const names = new Set([...Object.keys(fields), ...Object.keys(other)].filter(compared));
  return [...names]
    .filter((name) => fields[name] !== other[name])
    .map((name) => `${name}: Wherry says ${fields[name]}, containerd's own shim ${other[name]}`);
}
