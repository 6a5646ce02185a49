import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { CreateTaskRequest, KillRequest, StateRequest } from '../../../shim/gen/containerd/task/v2/shim.ts';
import { Empty } from '../../../shim/gen/google/protobuf/empty.ts';
import { Request, Response } from '../../../shim/gen/ttrpc/ttrpc.ts';
import { decodeFrame, encodeFrame, MAX_PAYLOAD } from '../../../shim/ttrpc/frame.ts';
import { serveTtrpcConnection } from '../../../shim/ttrpc/server.ts';
import { type CallContext, type MethodTable, unary } from '../../../shim/ttrpc/service.ts';
import { WherryError } from '../../../src/errors.ts';
import '../../support/property-seed.ts';

const SERVICE = 'containerd.task.v2.Task';

function serve(methods: MethodTable) {
  const answers: {
    streamId: number;
    type: number;
    flags: number;
    code: number;
    message: string;
    payload: Buffer;
  }[] = [];
  const connection = serveTtrpcConnection({
    services: new Map([[SERVICE, methods]]),
    context: { namespace: 'ns', scope: '/c.sock', listenerId: 5n },
    name: 'c1',
    send(bytes) {
      const { payload, ...frame } = decodeFrame(bytes);
      const response = Response.decode(payload);
      answers.push({
        ...frame,
        code: response.status?.code ?? 0,
        message: response.status?.message ?? '',
        payload: response.payload,
      });
    },
  });
  const call = (streamId: number, method: string, payload = Buffer.alloc(0), more: Partial<Request> = {}) => {
    const request = Request.fromPartial({ service: SERVICE, method, payload, ...more });
    connection.onFrame(encodeFrame(streamId, 1, 0, Request.encode(request).finish()));
  };
  return { connection, answers, call };
}

const echo = unary({
  request: StateRequest,
  response: StateRequest,
  handle: async (request: StateRequest) => request,
});

/** All that is queued runs. */
const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

describe('a ttrpc connection', () => {
  it('answers known bytes with known bytes', async () => {
    // Stream 1: containerd.task.v2.Task/State {id: "box"}, budget 2 s, the namespace as metadata.
    const request = Buffer.from(
      '000000510000000101000a17636f6e7461696e6572642e7461736b2e76322e5461736b120553746174651a050a03626f78' +
        '2080a8d6b9072a220a1a636f6e7461696e6572642d6e616d6573706163652d747472706312046d6f6279',
      'hex',
    );
    const sent: Buffer[] = [];
    const seen: CallContext[] = [];
    const second = serveTtrpcConnection({
      services: new Map([
        [
          SERVICE,
          {
            State: unary({
              request: StateRequest,
              response: StateRequest,
              handle: async (request: StateRequest, context) => {
                seen.push(context);
                return request;
              },
            }),
          },
        ],
      ]),
      context: { namespace: 'ns', scope: '', listenerId: 0n },
      name: 'c',
      send: (bytes) => void sent.push(bytes),
    });
    second.onFrame(request);
    await settled();
    assert.deepEqual(
      sent.map((bytes) => bytes.toString('hex')),
      ['0000000700000001020012050a03626f78'],
    );
    assert.equal(seen[0]?.requestId, 'c.1');
    assert.equal(seen[0]?.namespace, 'ns');
  });

  it('answers out of order and under the stream of the call', async () => {
    const first = Promise.withResolvers<Empty>();
    const { call, answers } = serve({
      Slow: unary({ request: Empty, response: Empty, handle: () => first.promise }),
      Echo: echo,
    });
    call(1, 'Slow');
    call(3, 'Echo', Buffer.from(StateRequest.encode({ id: 'a', execId: '' }).finish()));
    await settled();
    assert.deepEqual(
      answers.map(({ streamId }) => streamId),
      [3],
    );
    first.resolve({});
    await settled();
    assert.deepEqual(
      answers.map(({ streamId, type, flags, code }) => [streamId, type, flags, code]),
      [
        [3, 2, 0, 0],
        [1, 2, 0, 0],
      ],
    );
  });

  it('refuses even, repeated and smaller stream ids with code 3 and goes on', async () => {
    const { call, answers } = serve({ Echo: echo });
    call(5, 'Echo');
    call(2, 'Echo');
    call(5, 'Echo');
    call(3, 'Echo');
    call(7, 'Echo');
    await settled();
    assert.deepEqual(
      answers.map(({ streamId, code }) => [streamId, code]).sort(),
      [
        [2, 3],
        [3, 3],
        [5, 0],
        [5, 3],
        [7, 0],
      ].sort(),
    );
  });

  it('answers unknown services and methods with code 12, names of objects too', async () => {
    const { call, answers } = serve({ Echo: echo });
    call(1, 'Nope');
    call(3, 'toString');
    call(5, '__proto__');
    call(7, 'Echo', Buffer.alloc(0), { service: 'containerd.task.v9.Task' });
    await settled();
    assert.deepEqual(
      answers.map(({ code, message }) => [code, message]),
      [
        [12, 'method Nope'],
        [12, 'method toString'],
        [12, 'method __proto__'],
        [12, 'service containerd.task.v9.Task'],
      ],
    );
  });

  it('answers malformed messages with code 3', async () => {
    const { connection, call, answers } = serve({
      Kill: unary({ request: KillRequest, response: Empty, handle: async () => ({}) }),
    });
    connection.onFrame(encodeFrame(1, 1, 0, Buffer.from('ffffff', 'hex')));
    call(3, 'Kill', Buffer.from('0aff', 'hex'));
    connection.onFrame(Buffer.from('00'));
    connection.onFrame(encodeFrame(5, 3, 0, Buffer.from('data for nobody')));
    connection.onFrame(encodeFrame(7, 99, 0, Buffer.from('a frame of the future')));
    connection.onFrame(encodeFrame(9, 2, 0, Buffer.alloc(0)));
    await settled();
    assert.deepEqual(
      answers.map(({ streamId, code }) => [streamId, code]),
      [
        [1, 3],
        [3, 3],
        [5, 3],
      ],
    );
  });

  it('gives kind and field of an error, and unknown for what is none of ours', async () => {
    const throwing = (error: unknown) =>
      unary({ request: Empty, response: Empty, handle: () => Promise.reject(error) });
    const { call, answers } = serve({
      Ours: throwing(new WherryError('failed-precondition', 'not now', { path: 'id', hint: 'wait' })),
      Foreign: throwing(new TypeError('oops')),
    });
    call(1, 'Ours');
    call(3, 'Foreign');
    await settled();
    assert.deepEqual(
      answers.map(({ code, message }) => [code, message]),
      [
        [9, 'not now (id); wait'],
        [2, 'oops'],
      ],
    );
  });

  it('gives up at the budget of the call: code 4 once, and the handler is told', async () => {
    const late = Promise.withResolvers<Empty>();
    const aborted = Promise.withResolvers<unknown>();
    const { call, answers } = serve({
      Slow: unary({
        request: Empty,
        response: Empty,
        handle: (_request: Empty, { signal }) => {
          signal.addEventListener('abort', () => aborted.resolve(signal.reason));
          return late.promise;
        },
      }),
    });
    call(1, 'Slow', Buffer.alloc(0), { timeoutNano: 1_000_000n });
    assert.equal(((await aborted.promise) as WherryError).kind, 'deadline-exceeded');
    late.resolve({});
    await settled();
    assert.deepEqual(
      answers.map(({ streamId, code }) => [streamId, code]),
      [[1, 4]],
    );
  });

  it('answers code 8 instead of a message that the peer would not take', async () => {
    const { call, answers } = serve({
      Big: unary({
        request: Empty,
        response: CreateTaskRequest,
        handle: async () => CreateTaskRequest.fromPartial({ id: 'x'.repeat(MAX_PAYLOAD) }),
      }),
    });
    call(1, 'Big');
    await settled();
    assert.deepEqual(
      answers.map(({ code }) => code),
      [8],
    );
  });

  it('aborts what is under way when the caller goes, and answers nobody', async () => {
    const end = Promise.withResolvers<Empty>();
    const signals: AbortSignal[] = [];
    const { connection, call, answers } = serve({
      Wait: unary({
        request: Empty,
        response: Empty,
        handle: (_request: Empty, { signal }) => {
          signals.push(signal);
          return end.promise;
        },
      }),
    });
    call(1, 'Wait');
    call(3, 'Wait');
    connection.onClose();
    assert.deepEqual(
      signals.map(({ aborted }) => aborted),
      [true, true],
    );
    end.resolve({});
    await settled();
    assert.deepEqual(answers, []);
  });

  it('survives any bytes', () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 60 })), (frames) => {
        const { connection } = serve({ Echo: echo });
        for (const bytes of frames) connection.onFrame(Buffer.from(bytes));
        for (const bytes of frames) connection.onFrame(encodeFrame(1, 1, 0, bytes));
      }),
    );
  });
});
