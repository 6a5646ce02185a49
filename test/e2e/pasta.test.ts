/** `launch --network pasta`: the host's network from a namespace of its own, with Debian's pasta(1). */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { unpackedDebs } from '../support/debs.ts';
import { uniqueId } from '../support/paths.ts';
import { eventually } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

/** The host's default gateway (proc_net(5)); a connection to it from inside is one to the host's own loopback. */
function gateway(): string | undefined {
  const line = readFileSync('/proc/net/route', 'utf8')
    .split('\n')
    .map((one) => one.split('\t'))
    .find(([, destination, to]) => destination === '00000000' && to !== undefined && to !== '00000000');
  return line?.[2]
    ?.match(/../g)
    ?.reverse()
    .map((byte) => Number.parseInt(byte, 16))
    .join('.');
}

/** The host's addresses of global scope: 32 digits each. */
const global6 = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, , , scope, , device]) => scope === '00' && device !== 'lo')
    .map(([address]) => address ?? '');

const host = gateway();

describe('launch --network pasta', {
  skip: host === undefined && 'this machine has no default route',
}, () => {
  let wherry: Wherry;
  let pasta: string;
  const server = createServer((socket) => socket.end('hello from the host\n'));
  before(async () => {
    pasta = join(await unpackedDebs('bookworm', ['passt']), 'usr/bin');
    wherry = new Wherry({ PATH: `${pasta}:/usr/sbin:/usr/bin:/sbin:/bin` });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  });
  after(async () => {
    server.close();
    await wherry[Symbol.asyncDispose]();
  });
  const launch = (script: string, ...words: string[]) =>
    wherry.run(['launch', '--network', 'pasta', ...words, '--', 'bash', '-c', script], { timeout: 60_000 });
  const pastas = (): string[] =>
    readdirSync('/proc').filter((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`${pasta}/pasta\0`);
      } catch {
        return false;
      }
    });
  const port = (): number => {
    const address = server.address();
    assert.ok(address !== null && typeof address === 'object');
    return address.port;
  };

  test('reaches the host, from a network namespace of its own', async () => {
    const script = `readlink /proc/self/ns/net; exec 3<>/dev/tcp/${host}/${port()}; cat <&3`;
    const { code, stdout, stderr } = await launch(script);
    assert.equal(code, 0, stderr);
    const [namespace, greeting] = stdout.split('\n');
    assert.equal(greeting, 'hello from the host');
    assert.match(namespace ?? '', /^net:\[\d+\]$/);
    await eventually('pasta has ended', () => pastas().length === 0 || undefined);
  });

  test('has the names of the host, its own in hosts, and IPv6 where the host has it', async () => {
    const name = uniqueId('pasta').slice(0, 60);
    const { code, stdout, stderr } = await launch(
      'cat /etc/hosts; echo ---; cat /etc/resolv.conf; echo ---; cat /proc/net/if_inet6',
      '--hostname',
      name,
    );
    assert.equal(code, 0, stderr);
    const [hosts = '', resolv = '', addresses = ''] = stdout.split('---\n');
    assert.match(hosts, /^127\.0\.0\.1 localhost\n/);
    assert.ok(hosts.includes(` ${name}\n`));
    const own = readFileSync('/etc/resolv.conf', 'utf8');
    if (!/^nameserver\s+127\./m.test(own)) assert.equal(resolv, own);
    for (const address of global6(readFileSync('/proc/net/if_inet6', 'utf8')).slice(0, 1))
      assert.ok(global6(addresses).includes(address), addresses);
  });

  test('detached, and gone with the container', async () => {
    const id = uniqueId('detached');
    await wherry.must(['launch', '-d', '--name', id, '--network', 'pasta', '--', 'sleep', '1000'], {
      timeout: 60_000,
    });
    assert.equal(pastas().length, 1);
    await wherry.must(['rm', '--force', id]);
    await eventually('pasta has ended', () => pastas().length === 0 || undefined);
    assert.equal(existsSync(join(wherry.runDir, 'launch', id)), false);
  });

  test('says what to install where there is no pasta', async () => {
    await using bare = new Wherry();
    const env = { ...bare.env, PATH: '/nowhere' };
    const { code, stderr } = await bare.run(['launch', '--network', 'pasta', '--', '/bin/true'], { env });
    assert.equal(code, 125);
    assert.match(
      stderr,
      /--network pasta needs the program pasta, which is not in PATH.*apt-get install passt/,
    );
    assert.equal(
      existsSync(join(bare.runDir, 'launch')) && readdirSync(join(bare.runDir, 'launch')).length > 0,
      false,
    );
  });
});
