/** Memory: the garbage of this process, which the runtime by itself lets grow to a multiple of what is in use. */
export interface Memory {
  /** Collects it if a lot has come together since it was last collected here; that takes a tenth of a second with a large heap. */
  trim(): void;
}
