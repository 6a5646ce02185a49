import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { userBusAddress } from '../../../src/cgroup/user-bus.ts';

describe("where a user's bus is", () => {
  it('as the session says', () => {
    const env = { DBUS_SESSION_BUS_ADDRESS: 'unix:abstract=/tmp/x', XDG_RUNTIME_DIR: '/run/user/7' };
    assert.equal(userBusAddress(env, 7), 'unix:abstract=/tmp/x');
  });

  it("in the login's folder, named or not", () => {
    assert.equal(userBusAddress({ XDG_RUNTIME_DIR: '/run/user/8' }, 7), 'unix:path=/run/user/8/bus');
    assert.equal(userBusAddress({ DBUS_SESSION_BUS_ADDRESS: '' }, 7), 'unix:path=/run/user/7/bus');
  });

  it('with other signs than an address may hold', () => {
    assert.equal(userBusAddress({ XDG_RUNTIME_DIR: '/run/a b,ö' }, 7), 'unix:path=/run/a%20b%2c%c3%b6/bus');
  });
});
