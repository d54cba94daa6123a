// Refuses recipients who have left, and clients that go on guessing. The stages are in the
// folders export_*, what they share in policy.
package main

import (
	"runtime/debug"

	_ "{{name}}/guest/wit_exports"
)

func init() {
	// The collector asks for the time while the host is in the middle of a call, which the
	// component model forbids. An instance lives as long as one session: it gets by without.
	debug.SetGCPercent(-1)
}

func main() {}
