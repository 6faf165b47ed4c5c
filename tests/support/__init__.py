"""What the black-box tests are played with: servers and clients that misbehave on request, and the proxy."""
