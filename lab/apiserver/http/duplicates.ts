/** Duplicates: fields that a JSON text names twice in one object, which `JSON.parse` lets pass. Source: Kubernetes' strict decoding (KEP-2885). */

/** Paths of repeated fields, `spec.containers[0].image`, in document order, each once. The text must be valid JSON. */
export function duplicateFields(text: string): string[] {
  const scanner = new Scanner(text);
  scanner.value("");
  return [...scanner.found];
}

class Scanner {
  readonly found = new Set<string>();
  readonly #text: string;
  #at = 0;
  constructor(text: string) {
    this.#text = text;
  }

  #skipSpace(): void {
    while (/\s/.test(this.#text[this.#at] ?? "x")) this.#at++;
  }

  #string(): string {
    const start = this.#at++;
    while (this.#at < this.#text.length && this.#text[this.#at] !== '"')
      this.#at += this.#text[this.#at] === "\\" ? 2 : 1;
    this.#at++;
    return JSON.parse(this.#text.slice(start, this.#at)) as string;
  }

  /** Steps over one value. */
  value(path: string): void {
    this.#skipSpace();
    const first = this.#text[this.#at];
    if (first === "{") this.#object(path);
    else if (first === "[") this.#array(path);
    else if (first === '"') this.#string();
    else while (this.#at < this.#text.length && !/[,\]}\s]/.test(this.#text[this.#at] ?? "")) this.#at++;
    this.#skipSpace();
  }

  #object(path: string): void {
    const names = new Set<string>();
    this.#at++;
    this.#skipSpace();
    while (this.#at < this.#text.length && this.#text[this.#at] !== "}") {
      const name = this.#string();
      const child = path === "" ? name : `${path}.${name}`;
      if (names.has(name)) this.found.add(child);
      names.add(name);
      this.#skipSpace();
      this.#at++;
      this.value(child);
      if (this.#text[this.#at] === ",") this.#at++;
      this.#skipSpace();
    }
    this.#at++;
  }

  #array(path: string): void {
    this.#at++;
    this.#skipSpace();
    for (let index = 0; this.#at < this.#text.length && this.#text[this.#at] !== "]"; index++) {
      this.value(`${path}[${index}]`);
      if (this.#text[this.#at] === ",") this.#at++;
      this.#skipSpace();
    }
    this.#at++;
  }
}
