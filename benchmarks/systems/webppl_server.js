// One node process that compiles WebPPL models and enumerates them on request.
//
// A request is one line of JSON on stdin, an answer is one line on stdout:
//   {"load": name, "source": code}             -> {"version": ...}
//   {"run": name, "size": [...], "options": {...}, "times": n}
//                                              -> {"posterior": [[value, p], ...], "seconds": s}
// A source ends in a function from a size and options to the result of Infer. It stays compiled
// and warm between requests; the clock runs around the enumeration and the reading of the result.
'use strict';

const path = require('path');
const readline = require('readline');
const root = path.join(__dirname, '..', 'node_modules', 'webppl');
const webppl = require(path.join(root, 'src', 'main.js'));
const runner = require(path.join(root, 'src', 'util.js')).trampolineRunners.cli();

const programs = {};

function load(name, source) {
  const code = webppl.compile(source);
  webppl.prepare(code, (store, program) => { programs[name] = { store, program }; }).run();
  return { version: require(path.join(root, 'package.json')).version, node: process.version };
}

function infer(name, size, options) {
  const { store, program } = programs[name];
  let result;
  const finish = (s, value) => { result = value; };
  runner(program(Object.assign({}, store), finish, '', ...size, options));
  if (result instanceof Error) throw result;
  return result.support().map(value => [value, Math.exp(result.score(value))]);
}

function run(name, size, options, times) {
  const start = process.hrtime.bigint();
  let posterior;
  for (let i = 0; i < times; i++) posterior = infer(name, size, options);
  return { posterior, seconds: Number(process.hrtime.bigint() - start) / 1e9 / times };
}

// For models with a deterministic prefix: work that takes so many milliseconds.
global.work = {
  spin(milliseconds) {
    const end = process.hrtime.bigint() + BigInt(Math.round(milliseconds * 1e6));
    while (process.hrtime.bigint() < end);
    return milliseconds;
  }
};

readline.createInterface({ input: process.stdin }).on('line', line => {
  let answer;
  try {
    const request = JSON.parse(line);
    answer = request.load
      ? load(request.load, request.source)
      : run(request.run, request.size, request.options, request.times);
  } catch (error) {
    answer = { error: String(error && error.message || error) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
});
