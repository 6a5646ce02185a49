/** Where the bus of a user's systemd is. Sources: the D-Bus specification ("Server Addresses"), pam_systemd(8), user-runtime-dir@.service(5). */

type Environment = Readonly<Record<string, string | undefined>>;

/** As the session says, else where systemd puts it: in the folder of the login, also for those who did not log in (su, cron). */
export function userBusAddress(env: Environment, uid: number): string {
  const said = env['DBUS_SESSION_BUS_ADDRESS'] ?? '';
  if (said !== '') return said;
  const folder = env['XDG_RUNTIME_DIR'] || `/run/user/${uid}`;
  return `unix:path=${escaped(`${folder}/bus`)}`;
}

/** Bytes that an address may hold as they are; others are `%` and two hexadecimal digits. */
function escaped(path: string): string {
  return path.replace(/[^-0-9A-Za-z_/.\\*]/g, (char) =>
    [...Buffer.from(char)].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join(''),
  );
}
