/** Boots the guest (QEMU's own translator: no /dev/kvm is needed), runs one command in it and passes its output on. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { cache } from '../test/support/paths.ts';
import { type GuestImage, installTools, portName } from './guest-image.ts';
import { makePayload } from './guest-payload.ts';

const qemu = 'qemu-system-x86_64';
const STATUS = /^guest-exit-status: (\d+)$/;

export interface GuestResult {
  /** The command's exit code; undefined: the guest ended or was ended before the command did. */
  code: number | undefined;
  /** What the guest's kernel and systemd said. */
  console: string;
}

/** Each line of the command's output is given to `onLine` at once. Rejects when the guest has not ended after `limit` ms. */
export async function runInGuest(
  image: GuestImage,
  command: string,
  onLine: (line: string) => void,
  limit: number,
  kernelOptions: readonly string[] = [],
): Promise<GuestResult> {
  if (process.arch !== 'x64') throw new Error('the guest is x86_64 only');
  installTools();
  mkdirSync(join(cache, 'guest'), { recursive: true });
  const work = mkdtempSync(join(cache, 'guest', 'run-'));
  try {
    const payload = join(work, 'payload.ext4');
    await makePayload(payload, command);
    return await boot(image, payload, join(work, 'console.log'), onLine, limit, kernelOptions);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

async function boot(
  image: GuestImage,
  payload: string,
  consoleLog: string,
  onLine: (line: string) => void,
  limit: number,
  kernelOptions: readonly string[],
): Promise<GuestResult> {
  const drive = (file: string): string[] => [
    '-drive',
    `file=${file},if=virtio,format=raw,snapshot=on,cache=unsafe`,
  ];
  const child = spawn(
    qemu,
    [
      ...['-nodefaults', '-no-reboot', '-display', 'none', '-machine', 'q35', '-m', '2048', '-smp', '2'],
      ...['-accel', 'tcg,thread=multi', '-cpu', 'max,-pku'],
      ...['-kernel', image.kernel, '-initrd', image.initrd],
      ...[
        '-append',
        `console=ttyS0 quiet panic=-1 mitigations=off psi=1 systemd.show_status=no tsc=reliable ${kernelOptions.join(' ')}`,
      ],
      ...drive(image.disk),
      ...drive(payload),
      ...['-serial', `file:${consoleLog}`, '-device', 'virtio-rng-pci'],
      ...['-device', 'virtio-serial-pci', '-chardev', 'stdio,id=tests,signal=off'],
      ...['-device', `virtserialport,chardev=tests,name=${portName}`],
    ],
    // stdin stays open: its end would count as the port's and stop every write of the guest.
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let code: number | undefined;
  let rest = '';
  let problem = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    for (const line of lines) {
      const status = STATUS.exec(line);
      if (status === null) onLine(line);
      else code = Number(status[1]);
    }
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    problem += text;
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), limit);
  const stop = (): boolean => child.kill('SIGKILL');
  process.once('exit', stop);
  try {
    const [ended, signal] = await new Promise<[number | null, string | null]>((resolve, reject) => {
      child.on('error', (error) => reject(new Error(`${qemu} cannot be started: ${error.message}`)));
      child.on('close', (...end) => resolve(end));
    });
    const console = readFileSync(consoleLog, 'utf8');
    if (signal !== null)
      throw new Error(
        `the guest had not ended after ${limit / 1000} s; the end of its console:\n${tail(console)}`,
      );
    if (ended !== 0) throw new Error(`${qemu} ended with ${ended}: ${problem}`);
    return { code, console };
  } finally {
    clearTimeout(timer);
    process.removeListener('exit', stop);
  }
}

export function tail(text: string): string {
  return text.trimEnd().split('\n').slice(-40).join('\n');
}
