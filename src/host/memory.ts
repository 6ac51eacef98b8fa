/** Memory: garbage collection of this process; left alone, the runtime lets the heap grow to a multiple of what is in use. */
export interface Memory {
  /** Collects garbage if the process has grown a lot since the last call that did; takes a tenth of a second with a large heap. */
  trim(): void;
}
