/** Random: the only source of random numbers; seeded in tests. */
export interface Random {
  /** Uniform in [0, 1). */
  fraction(): number;
  /** RFC 9562 version 4, lower case. */
  uuid(): string;
}
