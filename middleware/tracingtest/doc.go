// Package tracingtest answers "how do I test this": a Tracing for a test, and the
// spans that the test made.
//
//	func TestCart(t *testing.T) {
//		tracing, spans := tracingtest.New(t, middleware.Config{})
//		srv := httptest.NewServer(tracing.Handler(newMux()))
//		defer srv.Close()
//
//		client := &http.Client{Transport: tracing.Transport(nil)}
//		client.Get(srv.URL + "/carts/7")
//
//		spans.Want(t, `
//			CLIENT GET
//			  SERVER GET /carts/{id} !500
//			    INTERNAL price
//		`)
//	}
//
// Nothing is exported, no variable of the environment counts, and no global changes
// unless the Config says SetGlobals; so tests can run in parallel, each with its own.
// It works inside a testing/synctest bubble.
//
// # Trees
//
// A tree is text, one span a line. A span stands below its parent, indented by two
// blanks more. Its line is
//
//	KIND name
//	KIND name !error.type
//
// KIND is INTERNAL, SERVER, CLIENT, PRODUCER or CONSUMER. The mark ! says that the
// span's status is Error; the attribute error.type follows it, and nothing where the
// span has none. A span whose parent is not among the spans begins a tree of its own:
// it is a root, or its parent is another process's or has not ended. Spans with one
// parent, and roots, stand in the order of their start.
//
// # Limits
//
// A server's span ends after its client has the answer, so [Spans.Named], [Spans.Wait]
// and [Spans.Want] wait for spans, 5 seconds at most. [Spans.All] and [Spans.Tree] do
// not.
package tracingtest
