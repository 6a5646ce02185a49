/* Frame types of the keel link and the client link (docs/internals.md). Twin: src/daemon/wire.ts. */
#ifndef WHERRY_WIRE_H
#define WHERRY_WIRE_H

#define HEADER_SIZE 16
#define MAX_FRAME (8 * 1024 * 1024)
#define PROTOCOL_VERSION 1

enum from_keel { /* keel to wherryd */
    FROM_KEEL_HELLO = 1,
    FROM_KEEL_CONN_OPEN = 2,
    FROM_KEEL_CONN_DATA = 3,
    FROM_KEEL_CONN_CLOSE = 4,
    FROM_KEEL_PLAYED = 5,
    FROM_KEEL_REGISTERED = 6,
    FROM_KEEL_EXIT = 7,
    FROM_KEEL_REPLY = 8,
    FROM_KEEL_PING = 9,
};

enum to_keel { /* wherryd to keel */
    TO_KEEL_CONN_DATA = 33,
    TO_KEEL_CONN_CLOSE = 34,
    TO_KEEL_SPAWN = 35,
    TO_KEEL_EXIT_ACK = 36,
    TO_KEEL_SIGNAL = 37,
    TO_KEEL_GO = 38,
    TO_KEEL_LISTEN = 39,
    TO_KEEL_UNLISTEN = 40,
    TO_KEEL_CLOSE_STDIN = 41,
    TO_KEEL_RELEASE = 42,
    TO_KEEL_PONG = 43,
    TO_KEEL_IDLE = 44,
    TO_KEEL_STOP = 45,
    TO_KEEL_READY = 46,
    TO_KEEL_STATUS = 47,
    TO_KEEL_RESIZE = 48,
    TO_KEEL_CANCEL = 49,
    TO_KEEL_ADOPT = 50,
    TO_KEEL_ACTING = 51,
    TO_KEEL_UPGRADE = 52,
    TO_KEEL_DEPOSIT = 53,
};

enum from_client { /* client to wherryd */
    FROM_CLIENT_REQUEST = 64,
    FROM_CLIENT_STDIN = 65,
    FROM_CLIENT_PLAYED = 66,
    FROM_CLIENT_EXITED = 67,
    FROM_CLIENT_RESIZED = 68,
};

enum to_client { /* keel (HELLO) or wherryd to client */
    TO_CLIENT_HELLO = 79,
    TO_CLIENT_OUT = 80,
    TO_CLIENT_EXIT = 81,
    TO_CLIENT_PLAY = 82,
    TO_CLIENT_WAIT = 83,
    TO_CLIENT_READ_STDIN = 84,
    TO_CLIENT_RELAY = 85,
    TO_CLIENT_NOTIFY = 86,
    TO_CLIENT_SOON = 87,
};

enum connection_kind { CONNECTION_KIND_TTRPC = 1, CONNECTION_KIND_CLIENT = 2 };

enum play_flags {
    PLAY_FLAGS_IN_PROCESS = 1,
    PLAY_FLAGS_CONSOLE = 2,
    PLAY_FLAGS_AFTER_EXIT = 4,
    PLAY_FLAGS_PRESERVE_SHIFT = 8,
};
enum wait_flags { WAIT_FLAGS_RELAY_TERMINAL = 1, WAIT_FLAGS_KILL_IF_UNHANDLED = 2, WAIT_FLAGS_END = 4 };

enum notify_flags { NOTIFY_FLAGS_STAYING = 1 };

enum stream_end { /* kinds of descriptors in the registration message */
    STREAM_END_PIDFD = 1,
    STREAM_END_STDIN_WRITER = 2,
    STREAM_END_STDOUT_READER = 3,
    STREAM_END_STDOUT_WRITER = 4,
    STREAM_END_STDERR_READER = 5,
    STREAM_END_STDERR_WRITER = 6,
    STREAM_END_MASTER = 7,       /* of a pseudo terminal: stdout and, with 8, stdin */
    STREAM_END_STDIN_READER = 8, /* to be copied to the terminal */
    STREAM_END_STDOUT_PIPE = 9,  /* to be copied to 4 */
    STREAM_END_STDERR_PIPE = 10, /* to be copied to 6 */
};

/* Where the player finds what it was given, and the start of the caller's preserved descriptors 3, 4, … */
enum player_descriptor { FD_TAPE = 3, FD_REGISTRATION = 4, FD_CONSOLE = 5, FD_GO = 6, FD_PRESERVED = 256 };

#define SHARED_PAGE 4096 /* the tape's first page; PLAYED carries its first PLAYED_PAGE bytes */
#define PLAYED_PAGE 1024
#define INIT_SLOT 128 /* result slot 0: the init's pid in the player's pid namespace, 8 bytes */

#endif
