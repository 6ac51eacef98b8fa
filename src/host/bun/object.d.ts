/** object: what an import of an object file is: the path at which it can be read. */
declare module "*.o" {
  const path: string;
  export default path;
}
