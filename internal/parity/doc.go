// Package parity holds the rules of Envoy that meshtrace follows or departs
// from, as data that tests walk: RULES.md, one row a rule, and the form of the
// files that hold recorded answers of a running Envoy.
//
//	rules, err := parity.Rules()        // every row of RULES.md
//	live, err := parity.LoadLive(path)  // requests and what Envoy answered
//	for _, c := range live.Cases {
//		t.Run(c.Name, …)
//	}
//
// A rule is named by its id, such as D-7: the letters say the topic (RID
// request id, ED edge, D decision, N names, T tags, E error tag, S status, W
// W3C trace context, B B3, O order and repeated headers, O-L and O-Z
// x-ot-span-context, P neighbours, X export, EG Envoy Gateway, GL Gloo, IS
// Istio). Code names the rule that forces a branch, a subtest the rule it
// holds; a test of this package fails on an id without a row.
//
// The package imports nothing of meshtrace, so that every package's tests may
// use it. It is read by tests alone.
package parity
