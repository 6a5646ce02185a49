/** `launch --network pasta`: the host's network from a namespace of its own, with Debian's pasta(1), for root and for ordinary users. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { unpackedDebs } from '../support/debs.ts';
import { OrdinaryUser } from '../support/ordinary-user.ts';
import { uniqueId, wherryBinary } from '../support/paths.ts';
import { eventually, type RunOptions, type RunResult } from '../support/run.ts';
import { Wherry } from '../support/wherry.ts';

/** The host's default gateways (proc_net(5)); a connection to one from inside is one to the host's own loopback. */
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

/** Of global scope: one that is local to its link would need the link's name. */
function gateway6(): string | undefined {
  if (!existsSync('/proc/net/ipv6_route')) return undefined;
  return readFileSync('/proc/net/ipv6_route', 'utf8')
    .split('\n')
    .map((one) => one.split(/\s+/))
    .find(([to, size, , , by = '']) => /^0+$/.test(to ?? '') && size === '00' && !/^(0+$|fe80)/.test(by))?.[4]
    ?.match(/..../g)
    ?.join(':');
}

/** The host's addresses of global scope: 32 digits each. */
const global6 = (text: string): string[] =>
  text
    .split('\n')
    .map((line) => line.split(/\s+/))
    .filter(([, , , scope, , device]) => scope === '00' && device !== 'lo')
    .map(([address]) => address ?? '');

const host = gateway();
const host6 = gateway6();

interface Caller extends AsyncDisposable {
  runDir: string;
  env: NodeJS.ProcessEnv;
  run(args: readonly string[], options?: RunOptions): Promise<RunResult>;
}

async function openUser(tun: number): Promise<Caller & { user: OrdinaryUser }> {
  const user = await OrdinaryUser.make({ ranges: ['800000:65536'], helpers: true, tun });
  return {
    user,
    runDir: user.runDir,
    env: user.env,
    run: (args, { env = user.env, ...options } = {}) =>
      user.as(['env', `PATH=${env['PATH']}`, wherryBinary, ...args], options),
    [Symbol.asyncDispose]: () => user[Symbol.asyncDispose](),
  };
}

const callers: Readonly<Record<string, () => Promise<Caller>>> = {
  root: async () => new Wherry(),
  // Where there is udev everybody may open it.
  'an ordinary user': () => openUser(0o666),
};

for (const [who, open] of Object.entries(callers)) {
  describe(`launch --network pasta: ${who}`, {
    skip: host === undefined && 'this machine has no default route',
  }, () => {
    let caller: Caller;
    let pasta: string;
    let port: number;
    const servers: Server[] = [];
    before(async () => {
      pasta = join(await unpackedDebs('bookworm', ['passt']), 'usr/bin');
      caller = await open();
      caller.env['PATH'] = `${pasta}:${caller.env['PATH']}`;
      const listen = (address: string, on = 0): Promise<number> =>
        new Promise((resolve, reject) => {
          const server = createServer((socket) => socket.end(`hello from ${address}\n`));
          servers.push(server);
          server.once('error', reject);
          server.listen(on, address, () => resolve((server.address() as { port: number }).port));
        });
      port = await listen('127.0.0.1');
      if (host6 !== undefined) await listen('::1', port);
    });
    after(async () => {
      for (const server of servers) server.close();
      await caller?.[Symbol.asyncDispose]();
    });
    const ended = () => eventually('pasta has ended', () => pastas().length === 0 || undefined);
    const launch = (script: string, ...words: string[]) =>
      caller.run(['launch', '--network', 'pasta', ...words, '--', 'bash', '-c', script], { timeout: 60_000 });
    const pastas = (): string[] =>
      readdirSync('/proc').filter((pid) => {
        try {
          return readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(`${pasta}/pasta\0`);
        } catch {
          return false;
        }
      });

    test('reaches the host, from a network namespace of its own', async () => {
      const script = `readlink /proc/self/ns/net; exec 3<>/dev/tcp/${host}/${port}; cat <&3`;
      const { code, stdout, stderr } = await launch(script);
      assert.equal(code, 0, stderr);
      const [namespace, greeting] = stdout.split('\n');
      assert.equal(greeting, 'hello from 127.0.0.1');
      assert.match(namespace ?? '', /^net:\[\d+\]$/);
      await ended();
    });

    test('reaches it over IPv6', { skip: host6 === undefined && 'no IPv6 route' }, async () => {
      // The address is tentative for a moment.
      const script = `for i in $(seq 100); do exec 3<>/dev/tcp/${host6}/${port} && break; sleep 0.1; done 2>/dev/null; cat <&3`;
      const { code, stdout, stderr } = await launch(script);
      assert.deepEqual([code, stdout], [0, 'hello from ::1\n'], stderr);
      await ended();
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
      await ended();
    });

    test('detached, and gone with the container', async () => {
      // More than once: the hook that ends it runs in a folder that goes with the container.
      for (let round = 0; round < 3; round += 1) {
        const id = uniqueId('detached');
        const started = await caller.run(
          ['launch', '-d', '--name', id, '--network', 'pasta', '--', 'sleep', '1000'],
          { timeout: 60_000 },
        );
        assert.equal(started.code, 0, started.stderr);
        assert.equal(pastas().length, 1);
        assert.equal((await caller.run(['rm', '--force', id])).code, 0);
        await ended();
      }
      await eventually('its folder has gone', () => folders(caller.runDir).length === 0 || undefined);
    });

    test('says what to install where there is no pasta', async () => {
      const env = { ...caller.env, PATH: '/nowhere' };
      const { code, stderr } = await caller.run(['launch', '--network', 'pasta', '--', '/bin/true'], { env });
      assert.equal(code, 125);
      assert.match(
        stderr,
        /--network pasta needs the program pasta, which is not in PATH.*apt-get install passt/,
      );
      assert.deepEqual(folders(caller.runDir), []);
    });
  });
}

const folders = (runDir: string): string[] =>
  existsSync(join(runDir, 'launch')) ? readdirSync(join(runDir, 'launch')) : [];

describe('launch --network pasta, other hosts', {
  skip: host === undefined && 'this machine has no default route',
}, () => {
  let caller: Awaited<ReturnType<typeof openUser>>;
  before(async () => {
    caller = await openUser(0o666);
  });
  after(() => caller?.[Symbol.asyncDispose]());
  const launch = (env: NodeJS.ProcessEnv, ...words: string[]) =>
    caller.run(['launch', '--network', 'pasta', '--', ...words], { env, timeout: 60_000 });

  test('names are asked of a server that listens on the loopback of the host', async () => {
    const server = createSocket('udp4', (message, from) => {
      server.send(`heard ${message}`, from.port, from.address);
    });
    // So that nobody else's is in the way.
    const address = `127.77.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;
    await new Promise<void>((resolve) => server.bind(53, address, resolve));
    const pasta = join(await unpackedDebs('bookworm', ['passt']), 'usr/bin');
    try {
      writeFileSync(
        join(caller.user.folder, 'etc/resolv.conf'),
        `search example.org\nnameserver ${address}\n`,
      );
      const script = [
        'cat /etc/resolv.conf',
        'server=$(sed -n "s/^nameserver //p" /etc/resolv.conf)',
        'exec 3<>/dev/udp/$server/53',
        'echo question >&3',
        'timeout 20 head -n 1 <&3',
      ].join('; ');
      const { stdout, stderr } = await launch({ PATH: `${pasta}:/usr/bin:/bin` }, 'bash', '-c', script);
      assert.equal(stdout, 'nameserver 169.254.1.1\nsearch example.org\nheard question\n', stderr);
    } finally {
      server.close();
    }
  });

  test('what pasta says when it fails is an error of the flag', async () => {
    const folder = join(caller.user.folder, 'bin');
    const script = 'echo "Failed to send 45 bytes to syslog" >&2\necho "No such luck" >&2\nexit 1';
    writeFileSync(join(folder, 'pasta'), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
    const { code, stderr } = await launch({ PATH: `${folder}:/usr/bin:/bin` }, 'true');
    const said = '--network pasta: pasta: exit status 1: No such luck; use --network host or none';
    assert.deepEqual([code, stderr], [125, `wherry launch failed: ${said}\n`]);
    assert.deepEqual(folders(caller.runDir), []);
  });
});

test('launch --network pasta: a user who may not open /dev/net/tun is told so', async () => {
  await using caller = await openUser(0o600);
  const pasta = join(await unpackedDebs('bookworm', ['passt']), 'usr/bin');
  const { code, stderr } = await caller.run(['launch', '--network', 'pasta', '--', 'true'], {
    env: { PATH: `${pasta}:/usr/bin:/bin` },
  });
  assert.equal(code, 125);
  assert.match(stderr, /--network pasta needs \/dev\/net\/tun: permission denied; let root make it/);
  assert.deepEqual(folders(caller.runDir), []);
});
