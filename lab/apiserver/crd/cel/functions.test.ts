/** Functions: what Kubernetes adds to CEL, and what of the language itself the library had otherwise. Each line holds in a kube-apiserver 1.34. */
import { describe, expect, test } from "bun:test";
import { compileExpression, summaryOf } from "./expression.ts";
import { BASE_ENVIRONMENT } from "./functions.ts";

function evaluate(expression: string): unknown {
  const { program } = compileExpression(BASE_ENVIRONMENT.clone(), expression);
  return program({});
}

describe("holds", () => {
  test.each([
    // Macros
    "has({'a': {'b': 1}}.a.b) && !has({'a': {'b': 1}}.a.c) && has([{'b': 1}][0].b)",
    "{'k': [1, 2]}['k'].all(x, x > 0) && [[1], [2]][1].exists(x, x == 2) && {'k': {'l': 1}}['k'].all(l, l == 'l')",
    "[3, 4].all(i, v, v == i + 3) && {'a': 1}.exists(k, v, k == 'a' && v == 1) && [1, 1].existsOne(i, v, i == v)",
    "[1, 2].transformList(i, v, i > 0, v * 2) == [4] && {'a': 1}.transformMap(k, v, v + 1) == {'a': 2}",
    "{'a': 'b'}.transformMapEntry(k, v, {v: k}) == {'b': 'a'} && ['x'].transformMapEntry(i, v, {v: i})['x'] == 0",
    "optional.of(1).optMap(x, x + 1).value() == 2 && !optional.none().optMap(x, x + 1).hasValue() && {'a': 1}.?a.optFlatMap(x, optional.of(x)).orValue(0) == 1",
    "optional.ofNonZeroValue('') == optional.none() && optional.ofNonZeroValue([1]) == optional.of([1])",
    // Conversions and literals
    "int(42u) == 42 && int(timestamp('1970-01-01T00:01:00Z')) == 60 && int('-7') == -7 && int(-1.9) == -1",
    "string(1000000.0) == '1e+06' && string(0.5) == '0.5' && string(timestamp('2024-01-02T03:04:05.060Z')) == '2024-01-02T03:04:05.06Z' && string(duration('1h0.5s')) == '3600.5s'",
    ".99 < 1.0 && r'\\d\"' == '\\\\d\"' && b'é' == b'\\xc3\\xa9' && br'\\d' == b'\\\\d' && b'a' < b'b' // a comment with has(x)",
    "duration('90s').getMinutes() == 1 && timestamp('2024-12-31T23:30:00Z').getDayOfYear() == 365 && timestamp('2024-12-31T23:30:00Z').getFullYear('+01:00') == 2025",
    "timestamp('2024-07-01T12:00:00Z').getHours('Europe/Berlin') == 14 && timestamp('2024-01-01T02:00:00Z').getDate('America/New_York') == 31",
    "1 < 1.5 && 2u > 1 && dyn(1) == 1.0 && 'Allow'.matches('^(?i)allow$') && matches('é', '^\\\\pL$')",
    // Strings
    "'tacocat'.indexOf('c', 3) == 4 && '😀b'.indexOf('b') == 1 && 'aba'.lastIndexOf('a') == 2 && 'ab'.lastIndexOf('') == 2 && 'ab'.indexOf('b', 9) == -1",
    "'😀abc'.substring(1, 3) == 'ab' && '😀'.charAt(0) == '😀' && 'abc'.replace('', '-') == '-a-b-c-'",
    "'ÄbC'.lowerAscii() == 'Äbc' && 'äb'.upperAscii() == 'äB' && '\\u0085 x\\u00a0'.trim() == 'x' && '\\ufeff'.trim() == '\\ufeff'",
    "'a,b,c'.split(',', 2) == ['a', 'b,c'] && 'ab'.split('') == ['a', 'b'] && ['a', 'b'].join('-') == 'a-b' && strings.quote('a\\n') == '\"a\\\\n\"'",
    "'%s is %d of %.1f'.format(['a', 1, 2.25]) == 'a is 1 of 2.2' && '%x %X %o %b'.format([255, 'z', 8, true]) == 'ff 7A 10 1' && '%%%s'.format([[1, 'a']]) == '%[1, \"a\"]'",
    // Lists and sets
    "[duration('1s'), duration('2s')].sum() == duration('3s') && [b'a', b'b'].max() == b'b' && [[1], [2]].indexOf([2]) == 1 && [1, 2, 1].lastIndexOf(1) == 2",
    "sets.contains([[1], [2]], [[2]]) && sets.equivalent([1, 1], [1]) && sets.intersects(['a'], ['b', 'a'])",
    // URLs
    "isURL('https://example.com:80/p?q') && isURL('/a/b') && isURL('http:') && isURL('mailto:a@b.c') && isURL('http://[::1]:80/')",
    "!isURL('../a') && !isURL('') && !isURL('1http://x') && !isURL('https://ex ample.com') && !isURL('https://a/%zz') && !isURL('https://a:b/') && !isURL('http://#a') && !isURL('http://#a@b') && isURL('http://a:b%2F@c') && isURL('https://a/b#c?d')",
    "url('https://user@Example.com:80/a b?k=1&k=2%263&l#f').getHost() == 'Example.com:80' && url('https://a/b c').getEscapedPath() == '/b%20c' && url('HTTP://a').getScheme() == 'http'",
    "url('https://[::1]:80/').getHostname() == '::1' && url('https://[::1]:80/').getPort() == '80' && url('https://a').getPort() == '' && url('/a').getHost() == '' && url('https://a/b#c?d').getEscapedPath() == '/b' && url('https://a/b#c?d=e').getQuery().size() == 0",
    "url('https://a?k=1&k=2%263&l').getQuery() == {'k': ['1', '2&3'], 'l': ['']} && url('https://a') == url('https://a')",
    // Named formats
    "!format.dns1123Label().validate('my-label').hasValue() && format.dns1123Label().validate('a b').hasValue() && format.dns1123Label().validate('a.b').value() == ['must not contain dots']",
    "!format.dns1123Subdomain().validate('a.b').hasValue() && format.dns1035Label().validate('1a').hasValue() && !format.dns1035LabelPrefix().validate('my-').hasValue() && format.dns1123LabelPrefix().validate('-').hasValue()",
    "!format.qualifiedName().validate('a.b/C').hasValue() && format.labelValue().validate('a!').hasValue() && !format.labelValue().validate('').hasValue() && !format.dns1123SubdomainPrefix().validate('a.b-').hasValue()",
    "format.uri().validate('../a').value() == ['parse \"../a\": invalid URI for request'] && !format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue() && format.uuid().validate('1').hasValue()",
    "format.byte().validate('aGVsbG8').hasValue() && !format.byte().validate('aGVsbG8=').hasValue() && !format.date().validate('2024-02-29').hasValue() && format.date().validate('2023-02-29').hasValue()",
    "!format.datetime().validate('2020-01-01T00:00:00Z').hasValue() && format.datetime().validate('2020-01-32T00:00:00Z').hasValue()",
    "format.named('uri').value() == format.uri() && !format.named('other').hasValue() && format.uri().validate('/a') != null",
    // Quantities
    "isQuantity('20Mi') && !isQuantity('20Mo') && quantity('200M') == quantity('0.2G') && quantity('50M').isLessThan(quantity('50Mi')) && quantity('1').compareTo(quantity('500m')) == 1",
    "quantity('50k').add(20).sub(quantity('100k')).sub(-50000).asInteger() == 20 && !quantity('1500m').isInteger() && quantity('50.703k').asApproximateFloat() == 50703.0 && sign(quantity('-1')) == -1",
    // Semantic versions
    "isSemver('1.2.3-rc.1+b') && !isSemver('1.2') && !isSemver('v1.2.3') && isSemver('v1.2', true) && !isSemver('1.2-rc', true) && semver('01.02', true) == semver('1.2.0')",
    "semver('1.2.3').minor() == 2 && semver('1.0.0-rc.2').isLessThan(semver('1.0.0-rc.10')) && semver('1.0.0').isGreaterThan(semver('1.0.0-a')) && semver('1.0.0-1').compareTo(semver('1.0.0-a')) == -1 && semver('1.0.0+a') == semver('1.0.0+b')",
  ])("%s", (expression) => expect(evaluate(expression)).toBe(true));
});

describe("is refused", () => {
  test.each([
    ["a list of several types", "[1, 'a'].size() == 2", "expected type 'int' but found 'string'"],
    ["a list that is dynamic in part", "[1, dyn(2)].size() == 2", "expected type 'int' but found 'dyn'"],
    ["a map of several types", "{'a': 1, 'b': 'c'}.size() == 2", "expected type 'int' but found 'string'"],
    ["a duration that is none", "duration('1x') > duration('1s')", 'time: invalid duration "1x"'],
    [
      "a duration that is too long",
      "duration('320000000000s') > duration('1s')",
      'time: invalid duration "320000000000s"',
    ],
    [
      "a day that is none",
      "timestamp('2023-02-29T00:00:00Z') > timestamp('2023-02-28T00:00:00Z')",
      'invalid timestamp "2023-02-29T00:00:00Z"',
    ],
    ["a number out of range", "int(-9223372036854775808.0) == 0", "integer overflow"],
    ["a pattern that is none", "'a'.matches('(?=a)')", 'invalid matches argument: "(?=a)" is no regular expression'],
    ["has of what is no field", "has({'a': 1}['a'])", "invalid argument to has() macro"],
    ["a predicate that is no bool", "[1].all(i, v, v)", "expected type 'bool' but found 'int'"],
    ["what may be absent used as if it was there", "[1].?a.optMap(x, x)", ""],
    ["bindings", "cel.bind(x, 1, x == 1)", "unknown variable: "],
    ["what only the library has", "b'a'.hex() == '61'", "found no matching overload for 'bytes.hex()'"],
    [
      "list functions that only stored rules have",
      "[1, 2].slice(0, 1) == [1]",
      "found no matching overload for 'list.slice(int, int)'",
    ],
    [
      "functions for strings of later versions",
      "'abc'.reverse() == 'cba'",
      "found no matching overload for 'string.reverse()'",
    ],
    ["authorizers", "authorizer.path('/').check('get').allowed()", "unknown variable: authorizer"],
    [
      "names that stand for functions inside",
      "own_trim('a') == 'a' || 'a'.own_trim() == 'a'",
      "found no matching overload for 'trim(string)'",
    ],
    ["base64", "base64.decode('YQ==') == b'a'", "unknown variable: base64"],
  ])("%s", (_, expression, words) => {
    let problem = "";
    try {
      compileExpression(BASE_ENVIRONMENT.clone(), expression);
    } catch (error) {
      problem = summaryOf(error);
    }
    expect(problem).not.toBe("");
    expect(problem).toStartWith(words);
  });
});

test.each([
  [
    "url('../a').getHost() == ''",
    'URL parse error during conversion from string: parse "../a": invalid URI for request',
  ],
  ["quantity('10Mo').isInteger()", '"10Mo" is no quantity: must be like 100m, 1.5Gi or 2e3'],
  ["quantity('9999999999999999999G').asInteger() == 0", "cannot convert value to integer"],
  ["semver('1.2').major() == 1", '"1.2" is no semantic version: must be like 1.2.3 or 1.2.3-rc.1'],
  ["'abc'.substring(4) == ''", "index out of range: 4"],
  ["'%d'.format(['a']) == ''", "error during formatting: decimal clause can only be used on integers"],
  ["'%s %s'.format(['a']) == ''", "index 1 out of range"],
  ["{'a': 1, 'b': 1}.transformMapEntry(k, v, {v: k}).size() == 1", "insert failed: key '1' already exists"],
  ["has({'a': 1}.b.c)", ""],
])("fails when it is run: %s", (expression, words) => {
  let problem = "";
  try {
    evaluate(expression);
  } catch (error) {
    problem = summaryOf(error);
  }
  expect(problem).toStartWith(words);
  expect(problem).not.toBe("");
});
