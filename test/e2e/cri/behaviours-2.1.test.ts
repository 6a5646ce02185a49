import { criBehaviours } from './behaviours.ts';

criBehaviours('2.1');
