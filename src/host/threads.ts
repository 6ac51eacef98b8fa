/** Threads: a second thread of this process, for work that would hold the first. The two share nothing and send each other texts. */
export interface Thread {
  send(text: string): void;
  /** Ends it; nothing is heard of it any more. */
  close(): void;
}

export interface ThreadEvents {
  received(text: string): void;
  /** It has ended, which nobody asked for; `cause` in words. */
  ended(cause: string): void;
}

/** What a program of a thread has of the thread that started it. */
export interface ThreadOwner {
  send(text: string): void;
  /** Called for each text; those that came before are kept for it. */
  receive(received: (text: string) => void): void;
}
