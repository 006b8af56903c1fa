package recorder;

import java.nio.file.Path;

/** Records dead letters: BROKERS, the version of the broker, the folder for the fixtures. */
public final class Main {
    public static void main(String[] args) throws Exception {
        try (Tape tape = new Tape(args[0], args[1], Path.of(args[2]))) {
            SpringLetters.record(tape);
            ConnectLetters.record(tape);
            StreamsLetters.record(tape);
            ShareLetters.record(tape);
        }
        System.exit(0); // whatever threads the programs have left
    }
}
