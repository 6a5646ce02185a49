import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as netlink from '../../../src/linux/netlink.ts';
import { cValues } from './c-values.ts';

test('every number has the value of the C headers', () => {
  const ours = Object.entries(netlink).filter(([name]) => /^(NLM|RTM|IFLA|IFA|RT_SCOPE|NETLINK)/.test(name));
  assert.ok(ours.length > 20);
  const headers = ['linux/netlink.h', 'linux/rtnetlink.h', 'linux/if_link.h', 'linux/if_addr.h'];
  const values = cValues(
    headers,
    ours.map(([name]) => name),
  );
  ours.forEach(([name, value], index) => {
    assert.equal(BigInt(value as number), values[index], name);
  });
});

test('messages are laid out as in the C headers', () => {
  const places = cValues(
    ['linux/netlink.h', 'linux/rtnetlink.h', 'linux/if_link.h', 'linux/if_addr.h'],
    [
      'NLMSG_LENGTH(0) + offsetof(struct ifinfomsg, ifi_index)',
      'NLMSG_LENGTH(0) + offsetof(struct ifaddrmsg, ifa_index)',
      'NLMSG_LENGTH(0) + offsetof(struct nlmsgerr, error)',
      'NLMSG_SPACE(sizeof(struct ifinfomsg)) + RTA_SPACE(5)',
    ],
  ).map(Number);
  assert.deepEqual(places.slice(0, 3), [
    netlink.LINK_INDEX_AT,
    netlink.ADDRESS_INDEX_AT,
    netlink.ACK_ERROR_AT,
  ]);
  const link = netlink.message(
    netlink.RTM_NEWLINK,
    0,
    Buffer.concat([netlink.linkBody(1), netlink.attribute(netlink.IFLA_IFNAME, netlink.textValue('eth0'))]),
  );
  assert.equal(link.length, places[3]);
});

test('of the addresses only permanent, global ones of the device are kept, without what the kernel adds', () => {
  const { IFA_F_PERMANENT, IFA_FLAGS, IFA_LOCAL } = netlink;
  const local = netlink.attribute(IFA_LOCAL, Uint8Array.of(10, 0, 0, 1));
  const of = (index: number, flags: number, scope: number) => {
    const attributes = Buffer.concat([local, netlink.attribute(IFA_FLAGS, netlink.numberValue(flags))]);
    const body = netlink.addressBody({ family: 2, prefix: 24, attributes }, index);
    body.writeUInt8(scope, 3);
    return netlink.parseAddress(body, 5);
  };
  const without = Buffer.concat([local, netlink.attribute(IFA_FLAGS, netlink.numberValue(0x200))]);
  assert.deepEqual(of(5, IFA_F_PERMANENT | 0x200, 0), { family: 2, prefix: 24, attributes: without });
  assert.equal(of(6, IFA_F_PERMANENT, 0), undefined);
  assert.equal(of(5, 0, 0), undefined);
  assert.equal(of(5, IFA_F_PERMANENT, 253), undefined);
});

test('a cut message is no message', () => {
  const whole = netlink.message(netlink.RTM_NEWADDR, 0, Buffer.alloc(8));
  assert.equal([...netlink.messages(Buffer.concat([whole, whole]))].length, 2);
  assert.equal([...netlink.messages(Buffer.concat([whole, whole.subarray(0, 20)]))].length, 1);
  assert.equal([...netlink.messages(Buffer.alloc(16))].length, 0);
});
