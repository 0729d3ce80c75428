// Package tracetree puts spans that arrived in any order back together as trees,
// one for each trace, and prints them.
//
//	spans, err := otlpwire.Decode(request)
//	for _, t := range tracetree.Build(spans) {
//		fmt.Println(t.ID, t.Spans, t.Depth, t.Errors, t.Orphans)
//		t.Print(os.Stdout)
//	}
//
// A root is a span without a parent id, or one whose parent is not among the
// spans of its trace. The second kind is an orphan, with one exception: a caller
// outside of what is collected. If every span whose parent is missing names the
// same parent, those of them whose OTLP flags say that the parent is remote were
// called by that one caller and are no orphans. Two different missing parents
// cannot be told from lost spans, so then all of them count.
//
// Spans are untrusted. A span that was delivered twice is kept once, spans that
// share an id are all kept, a cycle of parents is cut at its earliest span, and
// work and memory are linear in the number of spans, whatever their links say.
package tracetree
