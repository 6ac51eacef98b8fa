/** Report: how a component reports what an operator should know: a sentence, and its facts as fields. */
export type Report = (message: string, fields: Readonly<Record<string, unknown>>) => void;
