/** Property tests take the same random values in every run, so that a red run means a change; WHERRY_SEED=N looks further. */
import fc from 'fast-check';

fc.configureGlobal({ seed: Number(process.env['WHERRY_SEED'] ?? 1) });
