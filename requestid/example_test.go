package requestid_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/meshtrace/meshtrace/requestid"
)

func ExampleNew() {
	id := requestid.New()
	_, isUUID := id.UUID()
	fmt.Println(len(id), isUUID, id.Reason())
	// Output: 36 true NotTraceable
}

func ExampleParse() {
	id, err := requestid.Parse("125a4afb-6f55-94ba-ad80-413f09f48a28")
	fmt.Println(id.Reason(), err)

	_, err = requestid.Parse("a b")
	var pe *requestid.ParseError
	fmt.Println(errors.As(err, &pe), pe.Offset)
	fmt.Println(err)
	// Output:
	// Sampling <nil>
	// true 1
	// requestid: byte 1 of "a b" is " ", allowed are A-Z a-z 0-9 . _ ~ + / = -
}

func ExampleEqual() {
	logged := requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28")   // by the first hop
	received := requestid.ID("125a4afb-6f55-94ba-ad80-413f09f48a28") // after it decided
	fmt.Println(logged == received, requestid.Equal(logged, received), received.Canonical())
	// Output: false true 125a4afb-6f55-44ba-ad80-413f09f48a28
}

func ExampleNewContext() {
	ctx := requestid.NewContext(context.Background(), "job-2041")
	fmt.Println(requestid.FromContext(ctx)) // outgoing calls carry it
	// Output: job-2041
}

func ExampleID_Number() {
	n, ok := requestid.ID("125a4afb-6f55-44ba-ad80-413f09f48a28").Number()
	fmt.Println(n%10000, ok) // the bucket that every hop tests against its share

	_, ok = requestid.ID("my-request-id").Number()
	fmt.Println(ok)
	// Output:
	// 7323 true
	// false
}

func ExamplePolicy_Next() {
	edge := requestid.Policy{External: requestid.PreserveOrGenerate}
	fmt.Println(edge.Next("125a4afb-6f55-b4ba-ad80-413f09f48a28", true)) // an outsider marked it as traced
	fmt.Println(edge.Next("125a4afb-6f55-b4ba-ad80-413f09f48a28", false))

	_, change := requestid.Policy{}.Next("<script>", false)
	fmt.Println(change)
	// Output:
	// 125a4afb-6f55-44ba-ad80-413f09f48a28 cleared
	// 125a4afb-6f55-b4ba-ad80-413f09f48a28 kept
	// replaced
}

func ExampleFromUUID() {
	fmt.Println(requestid.FromUUID(uuid.MustParse("125A4AFB-6F55-44BA-AD80-413F09F48A28")))
	// Output: 125a4afb-6f55-44ba-ad80-413f09f48a28
}
