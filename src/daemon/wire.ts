/** Frame types of the keel link and the client link; docs/internals.md says what each carries. Twin: native/wire.h. */

export const HEADER_SIZE = 16;
export const MAX_FRAME = 8 * 1024 * 1024;
export const PROTOCOL_VERSION = 1;

/** keel → wherryd */
export const FromKeel = {
  HELLO: 1,
  CONN_OPEN: 2,
  CONN_DATA: 3,
  CONN_CLOSE: 4,
  PLAYED: 5,
  REGISTERED: 6,
  EXIT: 7,
  REPLY: 8,
  PING: 9,
} as const;

/** wherryd → keel */
export const ToKeel = {
  CONN_DATA: 33,
  CONN_CLOSE: 34,
  SPAWN: 35,
  EXIT_ACK: 36,
  SIGNAL: 37,
  GO: 38,
  LISTEN: 39,
  UNLISTEN: 40,
  CLOSE_STDIN: 41,
  RELEASE: 42,
  PONG: 43,
  IDLE: 44,
  STOP: 45,
  READY: 46,
  STATUS: 47,
  RESIZE: 48,
  CANCEL: 49,
  ADOPT: 50,
  ACTING: 51,
  UPGRADE: 52,
  DEPOSIT: 53,
} as const;

/** client → wherryd */
export const FromClient = {
  REQUEST: 64,
  STDIN: 65,
  PLAYED: 66,
  EXITED: 67,
  RESIZED: 68,
} as const;

/** keel or wherryd → client */
export const ToClient = {
  HELLO: 79,
  OUT: 80,
  EXIT: 81,
  PLAY: 82,
  WAIT: 83,
  READ_STDIN: 84,
  RELAY: 85,
  NOTIFY: 86,
  SOON: 87,
} as const;

export const ConnectionKind = { TTRPC: 1, CLIENT: 2 } as const;

/** From bit PRESERVE_SHIFT on: how many of the client's descriptors from 3 on are preserved for the tape. */
export const PlayFlags = { IN_PROCESS: 1, CONSOLE: 2, AFTER_EXIT: 4, PRESERVE_SHIFT: 8 } as const;
export const WaitFlags = { RELAY_TERMINAL: 1, KILL_IF_UNHANDLED: 2, END: 4 } as const;

export const NotifyFlags = { STAYING: 1 } as const;

/** Descriptor kinds of the registration message. */
export const StreamEnd = {
  PIDFD: 1,
  STDIN_WRITER: 2,
  STDOUT_READER: 3,
  STDOUT_WRITER: 4,
  STDERR_READER: 5,
  STDERR_WRITER: 6,
  MASTER: 7,
  STDIN_READER: 8,
  STDOUT_PIPE: 9,
  STDERR_PIPE: 10,
} as const;
