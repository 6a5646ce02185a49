/** Flags of runc and crun that Wherry does not take, or takes in another way, each with its reason: all of them are refused by name. */
export const flagsNotTaken: Readonly<Record<string, string>> = {
  'crun checkpoint --network-lock': 'takes its value as in crun, whose help leaves it out',
  'crun restore --network-lock': 'as for checkpoint',
};
