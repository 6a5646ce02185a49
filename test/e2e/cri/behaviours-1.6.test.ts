import { criBehaviours } from './behaviours.ts';

criBehaviours('1.6');
