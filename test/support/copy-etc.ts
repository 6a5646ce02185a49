/** A copy of the machine's /etc, for a user whom only a test knows. */
import { run } from './run.ts';

/** Files that go while they are copied are nobody's loss: another test may install a package meanwhile. */
export async function copyEtc(folder: string): Promise<void> {
  const { code, stderr } = await run('cp', ['--archive', '/etc', folder], {
    env: { ...process.env, LC_ALL: 'C' },
  });
  const problems = stderr
    .split('\n')
    .filter((line) => line !== '' && !/No such file or directory/.test(line));
  if (code !== 0 && problems.length > 0) throw new Error(`cp --archive /etc: ${problems.join('; ')}`);
}
