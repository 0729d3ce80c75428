// Package reqctx holds the one context node of a request.
//
// requestid, propagation, sampler, span and middleware each read their own part
// of it; middleware (or a Propagator used alone) creates it:
//
//	s := &reqctx.State{Context: ctx, RequestID: id}
//	ctx = s // the node is the context
//	reqctx.From(ctx).RequestID
//
// The package imports nothing of meshtrace, so it stands below all others.
package reqctx
