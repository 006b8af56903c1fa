package user

import (
	"net/http"

	"github.com/dreamscape/eventbus"
	"github.com/dreamscape/eventbus/examples/internal/service"
)

// newNames are the fields of a user that may be changed; "" stays as it is. The e-mail address is not among them: auth-service logs in
// by the one of user.created.
type newNames struct {
	FirstName string `json:"firstName"`
	LastName  string `json:"lastName"`
}

// Check implements [service.Body].
func (n newNames) Check(p *service.Problems) {
	p.Require(n != newNames{}, "body", "firstName, lastName or both")
	p.OptionalText("firstName", n.FirstName)
	p.OptionalText("lastName", n.LastName)
}

func (s *Service) rename(r *http.Request, in newNames) (User, error) {
	return s.change(r, func(u *User) eventbus.AnyEvent {
		changes := map[string]any{}
		if in.FirstName != "" {
			u.FirstName, changes["firstName"] = in.FirstName, in.FirstName
		}
		if in.LastName != "" {
			u.LastName, changes["lastName"] = in.LastName, in.LastName
		}
		return eventbus.UserUpdated.New(eventbus.UserUpdatedPayload{UserID: u.UserID, Changes: changes})
	})
}
