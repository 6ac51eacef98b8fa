/** Brand: a string or number that only its own parser can make, so that unlike identifiers cannot be mixed up. */
declare const brand: unique symbol;
export type Brand<T, Name extends string> = T & { readonly [brand]: Name };
