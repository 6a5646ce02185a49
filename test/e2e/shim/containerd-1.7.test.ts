import { ioBehaviours } from './io.ts';
import { lifeBehaviours } from './life.ts';
import { restartBehaviours } from './restart.ts';
import { startBehaviours } from './start.ts';
import { wireBehaviours } from './wire.ts';
import { behavioursOf } from './world.ts';

behavioursOf('1.7', {}, [startBehaviours, wireBehaviours, lifeBehaviours, ioBehaviours, restartBehaviours]);
