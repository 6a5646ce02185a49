/**
 * Where Wherry answers otherwise than runc or crun, and may. Each entry must still be seen, and is as narrow as it can be:
 * what is not here is the same in all.
 */
export interface AllowedDifference {
  to: 'runc' | 'crun';
  /** Name of the field, whole (scenario.ts). */
  field: RegExp;
  /** What Wherry says there; undefined: it has no such field. */
  wherry: RegExp | undefined;
  /** What the other says. */
  other: RegExp | undefined;
  why: string;
}

export const allowedDifferences: readonly AllowedDifference[] = [
  ...(['runc', 'crun'] as const).map((to) => ({
    to,
    field: /^(state|list) of stopped\.out(\[0\])?\.exit\.(status|reason|signal|time)$/,
    wherry: /^(137|signaled|9|TIME)$/,
    other: undefined,
    why: 'how it ended, which only Wherry remembers',
  })),
  {
    to: 'runc',
    field: /^no id\.error$/,
    wherry: /^"create" requires exactly 1 argument\(s\), found 0; usage: /,
    other: /^\S*runc: "create" requires exactly 1 argument\(s\)$/,
    why: 'runc begins with the path by which it was called',
  },
  {
    to: 'runc',
    field: /^unknown command\.error$/,
    wherry: /^unknown command "flurb"; /,
    other: /^No help topic for 'flurb'$/,
    why: 'nobody asked for help',
  },
  {
    to: 'runc',
    field: /^unknown flag\.error$/,
    wherry: /^flag provided but not defined: --flurb; /,
    other: /^flag provided but not defined: -flurb$/,
    why: 'the flag as it was written',
  },
  {
    to: 'runc',
    field: /^unknown flag\.out$/,
    wherry: /^$/,
    other: /^\(help\)$/,
    why: 'help nobody asked for hides the error',
  },
  {
    to: 'crun',
    field: /\.error$/,
    wherry: /./,
    other: /^/,
    why: 'crun has words of its own; callers look for those of runc',
  },
  {
    to: 'crun',
    field: /^empty list\.out$/,
    wherry: /^null$/,
    other: /^\[\]$/,
    why: "an empty list of runc's is null",
  },
  {
    to: 'crun',
    field: /^state of \w+\.out\.ociVersion$/,
    wherry: /^1\.0\.2-dev$/,
    other: /^1\.0\.0$/,
    why: "the version is the bundle's, as the specification says; crun's never changes",
  },
  {
    to: 'crun',
    field: /^state of \w+\.out\.rootfs$/,
    wherry: /^FOLDER\/bundle\/rootfs$/,
    other: /^rootfs$/,
    why: 'a path that means the same to everybody, as in runc',
  },
  {
    to: 'crun',
    field: /^state of \w+\.out\.owner$/,
    wherry: /^$/,
    other: /^root$/,
    why: "runc's owner is empty in state, and named in list",
  },
  {
    to: 'crun',
    field: /^state of \w+\.out\.systemd-scope$/,
    wherry: undefined,
    other: /^$/,
    why: 'a field that only crun has',
  },
  {
    to: 'crun',
    field: /^list( of stopped)?\.out\[0\]\.(ociVersion|rootfs|annotations\.org\.example\.colour)$/,
    wherry: /^(1\.0\.2-dev|FOLDER\/bundle\/rootfs|blue)$/,
    other: undefined,
    why: 'list shows what state shows, as in runc',
  },
  {
    to: 'crun',
    field: /^table\.out\.head$/,
    wherry: /^ID \| PID \| STATUS \| BUNDLE \| CREATED \| OWNER$/,
    other: /^NAME \| PID \| STATUS \| BUNDLE PATH \| CREATED \| OWNER$/,
    why: "runc's columns",
  },
  {
    to: 'crun',
    field: /^table\.out\[0\]\.(NAME|BUNDLE PATH)$/,
    wherry: undefined,
    other: /^(ID|FOLDER\/bundle)$/,
    why: "runc's columns",
  },
  {
    to: 'crun',
    field: /^table\.out\[0\]\.(ID|BUNDLE)$/,
    wherry: /^(ID|FOLDER\/bundle)$/,
    other: undefined,
    why: "runc's columns",
  },
  {
    to: 'crun',
    field: /^exec in (paused|stopped|unknown)\.exit$/,
    wherry: /^255$/,
    other: /^1$/,
    why: "a failed exec is 255 in runc, which is not a program's own 1",
  },
  {
    to: 'crun',
    field: /^resume again\.exit$/,
    wherry: /^1$/,
    other: /^0$/,
    why: 'runc refuses to resume what is not paused',
  },
  {
    to: 'crun',
    field: /^resume again\.error$/,
    wherry: /^container not paused$/,
    other: undefined,
    why: 'runc refuses to resume what is not paused',
  },
  {
    to: 'crun',
    field: /^kill with an unknown signal\.exit$/,
    wherry: /^1$/,
    other: /^0$/,
    why: 'crun takes any word for signal 0',
  },
  {
    to: 'crun',
    field: /^kill with an unknown signal\.error$/,
    wherry: /^unknown signal "NOSUCH"/,
    other: undefined,
    why: 'crun takes any word for signal 0',
  },
  {
    to: 'crun',
    field: /^ps of stopped\.(exit|out)$/,
    wherry: /^(0|null)$/,
    other: /^(128|)$/,
    why: 'a container without processes has an empty list of them',
  },
  {
    to: 'crun',
    field: /^ps of stopped\.error$/,
    wherry: undefined,
    other: /^$/,
    why: 'a container without processes has an empty list of them',
  },
  {
    to: 'crun',
    field: /^ps of unknown\.exit$/,
    wherry: /^1$/,
    other: /^253$/,
    why: "runc's status",
  },
  {
    to: 'crun',
    field: /^unknown (command|flag)\.exit$/,
    wherry: /^[31]$/,
    other: /^(1|64)$/,
    why: "runc's status",
  },
];
