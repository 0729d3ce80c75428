// Package failure holds the errors of handlers that did not return.
//
//	defer func() {
//		if !returned {
//			v := recover()
//			end(failure.Of(v))
//			panic(v)
//		}
//	}()
package failure
