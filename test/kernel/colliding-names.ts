/** Two valid policy names which a digest that is not cryptographic does not tell apart. */
const HEAD = "a".repeat(160);
/** Found by a search of half a second: as ids of namespace mallory, both have one cyrb53 digest. */
export const COLLIDING = [
  `${HEAD}hpead8e4dyc2o20adyc2dye4m00adye4m00adye4dyc2dye4dyc2o20adyc2dye4dyc2dye4`,
  `${HEAD}a904mq0am00adye4dyc2o20adyc2o20am00adye4m00ao20adyc2dye4m00adye4dyc2dye4`,
] as const;
