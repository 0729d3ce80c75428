// Package browsercheck looks at the pages of this repository as a person does, in
// Debian's Chromium: examples/hotrod with its debug page, and the debug page over
// hostile spans and over calls that are under way. It has no Go code of its own.
//
//	internal/browsercheck/run                             # installs playwright-core, then checks
//	node internal/browsercheck/check.mjs --only hostile   # a part: hotrod, hostile or underway
//	node internal/browsercheck/check.mjs --screenshot examples/hotrod/waterfall.png
//	node internal/browsercheck/check.mjs http://127.0.0.1:8080/   # a hotrod that runs already
//
// It needs Go, Node.js from 18 on, npm and Chromium (CHROMIUM names another binary than
// /usr/bin/chromium), takes free ports on 127.0.0.1, and ends what it started. A check
// that fails leaves a picture in .out/browsercheck; the exit code is 1 then.
//
// playwright-core is pinned in package.json. There is no lock file, as that would name
// the registry of whoever wrote it.
//
//   - check.mjs: the arguments, the programs, the verdict
//   - harness.mjs: a browser that notes every error, policy violation and foreign address
//   - hotrod.mjs: a ride and its trace, by mouse, by keyboard, at 400 px, light and dark
//   - hostile.mjs: the debug page over the spans of the program in hostile
//   - underway.mjs: the debug page of the program in underway, while its calls last
package browsercheck
