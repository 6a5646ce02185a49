import { lifeBehaviours } from './life.ts';
import { startBehaviours } from './start.ts';
import { wireBehaviours } from './wire.ts';
import { behavioursOf } from './world.ts';

behavioursOf('1.7', {}, [startBehaviours, wireBehaviours, lifeBehaviours]);
