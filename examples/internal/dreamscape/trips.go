package dreamscape

import (
	"context"
	"fmt"

	"github.com/dreamscape/eventbus"
)

// saga is a booking and where it should end.
type saga struct {
	name, bookingID  string
	booking, payment string           // the states at the end
	left             eventbus.Decimal // what is paid and not refunded, at the end
	events           []string         // of the booking's correlation id
}

type (
	bookingView struct {
		BookingID string           `json:"bookingId"`
		Amount    eventbus.Decimal `json:"amount"`
		Status    string           `json:"status"`
		Reason    string           `json:"reason"`
		Extras    struct {
			Seat string `json:"seat"`
		} `json:"extras"`
	}
	paymentView struct {
		TransactionID string           `json:"transactionId"`
		Amount        eventbus.Decimal `json:"amount"`
		Status        string           `json:"status"`
		ErrorCode     string           `json:"errorCode"`
		Left          eventbus.Decimal `json:"left"`
		Refunds       []struct {
			Amount eventbus.Decimal `json:"amount"`
		} `json:"refunds"`
	}
	chargedView struct {
		Charged []paymentView `json:"charged"`
	}
)

const (
	getBooking  = "GET voyage-service/bookings/{bookingId}"
	getPayment  = "GET payment-service/bookings/{bookingId}/payment"
	postBooking = "POST voyage-service/bookings"
	postCancel  = "POST voyage-service/bookings/{bookingId}/cancellation"
	putCard     = "PUT payment-service/cards/{userId}"

	goodCard     = "4242424242424242"
	declinedCard = "4000000000000002"
)

// book books a flight and a hotel of a city, such as "PAR", and checks the price.
func (j *journey) book(ctx context.Context, t traveller, city, price string) (bookingID string, err error) {
	body := object{"userId": t.id, "flightId": "FL-" + city + "-1", "hotelId": "HO-" + city + "-1"}
	b, err := ask[bookingView](ctx, j, postBooking, "", body, 201)
	if err != nil {
		return "", err
	}
	if b.Amount.Cmp(eventbus.MustDecimal(price)) != 0 {
		return "", fmt.Errorf("%s: expected the amount %s, saw %s", postBooking, price, b.Amount)
	}
	return b.BookingID, nil
}

func bookingIs(status string) func(bookingView) bool {
	return func(b bookingView) bool { return b.Status == status }
}

func paymentIs(status, left string) func(paymentView) bool {
	return func(p paymentView) bool { return p.Status == status && p.Left.Cmp(eventbus.MustDecimal(left)) == 0 }
}

// bookPaid books for Ada, whose card is good, and waits for the confirmation.
func (j *journey) bookPaid(ctx context.Context, city, price string) (bookingID string, err error) {
	if bookingID, err = j.book(ctx, j.ada, city, price); err != nil {
		return "", err
	}
	_, err = await(ctx, j, getBooking, bookingID, "a confirmed booking", bookingIs("confirmed"))
	return bookingID, err
}

func (j *journey) bookWithoutCard(ctx context.Context) error {
	id, err := j.book(ctx, j.ada, "PAR", "360.00")
	if err != nil {
		return err
	}
	j.sagas = append(j.sagas, &saga{
		name: "paid", bookingID: id, booking: "confirmed", payment: "completed", left: eventbus.MustDecimal("360.00"),
		events: []string{"voyage.booking.created", "payment.initiated", "payment.completed", "voyage.booking.confirmed", "voyage.booking.updated"},
	})
	err = see(ctx, j, "voyage.booking.created", getPayment, id, "an initiated payment", paymentIs("initiated", "0"))
	if err != nil {
		return err
	}
	_, err = await(ctx, j, getBooking, id, "a pending booking", bookingIs("pending"))
	return err
}

func (j *journey) giveCard(ctx context.Context) error {
	card, err := ask[chargedView](ctx, j, putCard, j.ada.id, object{"cardNumber": goodCard}, 200)
	if err != nil {
		return err
	}
	if len(card.Charged) != 1 {
		return fmt.Errorf("%s: expected that one payment was charged, saw %d", putCard, len(card.Charged))
	}
	if err := see(ctx, j, "payment.completed", getBooking, j.sagas[0].bookingID, "a confirmed booking", bookingIs("confirmed")); err != nil {
		return err
	}
	return see(ctx, j, "payment.completed", getUser, j.ada.id, "a premium user", func(u userView) bool { return u.Premium })
}

func (j *journey) changeBooking(ctx context.Context) error {
	b, err := ask[bookingView](ctx, j, "PATCH voyage-service/bookings/{bookingId}", j.sagas[0].bookingID, object{"seat": "12A"}, 200)
	if err == nil && b.Extras.Seat != "12A" {
		err = fmt.Errorf("the answer lacks the seat")
	}
	return err
}

func (j *journey) partialRefund(ctx context.Context) error {
	id, err := j.bookPaid(ctx, "LIS", "237.55")
	if err != nil {
		return err
	}
	j.sagas = append(j.sagas, &saga{
		name: "partly refunded", bookingID: id, booking: "confirmed", payment: "partially refunded", left: eventbus.MustDecimal("200.05"),
		events: []string{"voyage.booking.created", "payment.initiated", "payment.completed", "voyage.booking.confirmed", "payment.partial.refund"},
	})
	p, err := await(ctx, j, getPayment, id, "a completed payment", paymentIs("completed", "237.55"))
	if err != nil {
		return err
	}
	const refund = "POST payment-service/payments/{transactionId}/refunds"
	if err := j.command(ctx, refund, p.TransactionID, object{"amount": 37.50}, 201); err != nil {
		return err
	}
	if err := j.command(ctx, refund, p.TransactionID, object{"amount": 200.06}, 400); err != nil {
		return err // more than what is left
	}
	_, err = await(ctx, j, getPayment, id, "200.05 left", paymentIs("partially refunded", "200.05"))
	return err
}

func (j *journey) cancelPaid(ctx context.Context) error {
	id, err := j.bookPaid(ctx, "OSL", "280.00")
	if err != nil {
		return err
	}
	j.sagas = append(j.sagas, &saga{
		name: "cancelled after payment", bookingID: id, booking: "cancelled", payment: "refunded",
		events: []string{"voyage.booking.created", "payment.initiated", "payment.completed", "voyage.booking.confirmed",
			"voyage.booking.cancelled", "payment.refunded"},
	})
	if err := j.command(ctx, postCancel, id, object{"reason": "the weather"}, 200); err != nil {
		return err
	}
	if err := j.command(ctx, postCancel, id, object{"reason": "the weather"}, 409); err != nil {
		return err
	}
	return see(ctx, j, "voyage.booking.cancelled", getPayment, id, "one refund of 280.00", func(p paymentView) bool {
		return paymentIs("refunded", "0")(p) && len(p.Refunds) == 1 && p.Refunds[0].Amount.Cmp(eventbus.MustDecimal("280.00")) == 0
	})
}

func (j *journey) declinedCard(ctx context.Context) error {
	if err := j.command(ctx, putCard, j.ada.id, object{"cardNumber": declinedCard}, 200); err != nil {
		return err
	}
	id, err := j.book(ctx, j.ada, "ROM", "186.40")
	if err != nil {
		return err
	}
	j.sagas = append(j.sagas, &saga{
		name: "declined", bookingID: id, booking: "cancelled", payment: "failed",
		events: []string{"voyage.booking.created", "payment.initiated", "payment.failed", "voyage.booking.cancelled"},
	})
	if err := see(ctx, j, "payment.failed", getBooking, id, "a cancelled booking", bookingIs("cancelled")); err != nil {
		return err
	}
	_, err = await(ctx, j, getPayment, id, "a failed payment, card_declined", func(p paymentView) bool {
		return p.Status == "failed" && p.ErrorCode == "card_declined"
	})
	return err
}

func (j *journey) cancelUnpaid(ctx context.Context) (err error) {
	if j.grace, err = j.join(ctx, "Grace", "Hopper"); err != nil {
		return err
	}
	id, err := j.book(ctx, j.grace, "PAR", "360.00")
	if err != nil {
		return err
	}
	j.sagas = append(j.sagas, &saga{
		name: "cancelled before payment", bookingID: id, booking: "cancelled", payment: "voided",
		events: []string{"voyage.booking.created", "payment.initiated", "voyage.booking.cancelled", "payment.failed"},
	})
	if _, err = await(ctx, j, getPayment, id, "an initiated payment", paymentIs("initiated", "0")); err != nil {
		return err
	}
	if err := j.command(ctx, postCancel, id, object{"reason": "changed her mind"}, 200); err != nil {
		return err
	}
	if _, err = await(ctx, j, getPayment, id, "a voided payment", paymentIs("voided", "0")); err != nil {
		return err
	}
	card, err := ask[chargedView](ctx, j, putCard, j.grace.id, object{"cardNumber": goodCard}, 200)
	if err == nil && len(card.Charged) > 0 {
		err = fmt.Errorf("%s: a cancelled booking was charged", putCard)
	}
	return err
}
