import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * Classic producers and push consumers, unmodified and with default settings, while brokers are killed. It is told of each
 * kill on its standard input, one word a line, and answers each with a line that begins with "= ".
 */
public final class Kills {
    private static final int KEYS = 16;
    /** Clients went on if all was well for so long. */
    private static final long WELL_FOR = 5_000;
    private static final long WAIT_MAX = 120_000;
    /** A message may be so long on its way. */
    private static final long ON_ITS_WAY = 2_000;
    private static final long LOOK_EVERY = 250;

    private final Faults faults = new Faults();
    private final Ledger ledger = new Ledger();
    private final List<Senders> senders = new ArrayList<>();
    private final List<Readers> readers = new ArrayList<>();
    /** Of each kind of victim, all figures by client and name. */
    private final Map<String, Map<String, List<Double>>> all = new LinkedHashMap<>();
    private final Offsets offsets;
    private String victim;
    private String label;
    private long killedAt;
    private double backAfter;

    private Kills(String nameServers) throws Exception {
        readers.add(new Readers("kills-concurrent", "kills-plain", false, ledger, faults));
        readers.add(new Readers("kills-orderly", "kills-ordered", true, ledger, faults));
        for (Readers group : readers) {
            group.start(nameServers);
        }
        for (Senders.Kind kind : Senders.Kind.values()) {
            String topic = kind == Senders.Kind.PLAIN ? "kills-plain" : "kills-ordered";
            senders.add(new Senders(kind, nameServers, topic, ledger, 200));
        }
        senders.forEach(sender -> sender.start(KEYS));
        offsets = new Offsets(nameServers, readers, faults);
        offsets.start();
    }

    public static void main(String[] args) throws Exception {
        Kills kills = new Kills(args[0]);
        BufferedReader commands = new BufferedReader(new InputStreamReader(System.in));
        for (String line = commands.readLine(); line != null; line = commands.readLine()) {
            String[] words = line.split(" ");
            switch (words[0]) {
                case "well":
                    answer(kills.isWell() ? "well" : "never");
                    break;
                case "host":
                    answer(kills.offsets.host("kills-plain"));
                    break;
                case "kill":
                    kills.begin(words[1], words[2] + " " + words[3]);
                    answer("kill it");
                    break;
                case "back":
                    answer(kills.isBack());
                    break;
                case "close":
                    kills.close();
                    answer("closed");
                    break;
                case "end":
                    boolean isGood = kills.end();
                    answer(isGood ? "good" : "broken");
                    System.exit(isGood ? 0 : 1);
                    break;
                default:
                    throw new IllegalArgumentException(line);
            }
        }
        System.exit(1);
    }

    private static void answer(String text) {
        System.out.println("= " + text);
        System.out.flush();
    }

    private void begin(String kind, String name) {
        takeFigures();
        victim = kind;
        label = kind + " " + name;
        killedAt = System.nanoTime();
    }

    private boolean isWell() throws InterruptedException {
        return lastTrouble() >= 0;
    }

    private String isBack() throws InterruptedException {
        long last = lastTrouble();
        if (last < 0) {
            faults.add(label + ": clients do not go on within " + WAIT_MAX / 1000 + " s");
            backAfter = Double.NaN;
            return "never";
        }
        backAfter = Math.max(0, last - killedAt) / 1e9;
        return String.format("%.1f", backAfter);
    }

    /** Waits until all is well for a while; when it was not, last. Below 0 if that takes too long. */
    private long lastTrouble() throws InterruptedException {
        long began = System.nanoTime();
        long last = began;
        // What was acknowledged some time ago should have been received.
        Deque<Map<Ledger.Key, Integer>> due = new ArrayDeque<>();
        for (;;) {
            Map<Ledger.Key, Integer> acknowledged = new HashMap<>();
            ledger.keys().forEach(key -> acknowledged.put(key, key.acknowledged));
            due.add(acknowledged);
            Map<Ledger.Key, Integer> wanted = due.size() > ON_ITS_WAY / LOOK_EVERY ? due.remove() : new HashMap<>();
            long now = System.nanoTime();
            boolean isWell = ledger.keys().stream()
                .allMatch(key -> key.failures == 0 && now - key.lastAcknowledged < ON_ITS_WAY * 1_000_000);
            isWell &= wanted.entrySet().stream().allMatch(key -> key.getKey().received() >= key.getValue());
            last = isWell ? last : now;
            if (now - last > WELL_FOR * 1_000_000) {
                return last;
            }
            if (now - began > WAIT_MAX * 1_000_000) {
                return -1;
            }
            Thread.sleep(LOOK_EVERY);
        }
    }

    private Map<String, Figures> takeFigures() {
        Map<String, Figures> figures = new LinkedHashMap<>();
        senders.forEach(sender -> figures.put(sender.kind.name().toLowerCase(), sender.take()));
        readers.forEach(group -> figures.put(group.group.replace("kills-", ""), group.take()));
        return figures;
    }

    /** Prints what this kill did. */
    private void close() {
        StringBuilder line = new StringBuilder(label).append(": back after ").append(String.format("%.1f s", backAfter));
        Map<String, List<Double>> known = all.computeIfAbsent(victim, added -> new LinkedHashMap<>());
        known.computeIfAbsent("clients back after", added -> new ArrayList<>()).add(backAfter);
        takeFigures().forEach((client, figures) -> {
            line.append(" | ").append(client).append(": ").append(figures);
            figures.values.forEach((name, value) -> known.computeIfAbsent(client + " " + name, added -> new ArrayList<>()).add(value));
        });
        System.out.println(line);
    }

    private boolean end() throws InterruptedException {
        for (Senders sender : senders) {
            sender.stop(60_000);
        }
        long until = System.currentTimeMillis() + 60_000;
        while (ledger.lost() > 0 && System.currentTimeMillis() < until) {
            Thread.sleep(200);
        }
        offsets.end();
        int lost = ledger.lost();
        if (lost > 0) {
            faults.add(lost + " acknowledged messages were not received");
        }
        for (Senders sender : senders) {
            int twice = sender.failedTwice();
            // The client of a hashed key has nowhere else to go before its next look for routes.
            if (twice > 0 && sender.kind != Senders.Kind.HASHED) {
                faults.add(twice + " " + sender.kind.name().toLowerCase() + " messages failed more than once");
            }
        }
        all.forEach(Kills::printSummary);
        System.out.printf("acknowledged %d, lost %d, offsets read %d times, rules broken %d%n",
            ledger.acknowledged(), lost, offsets.looks, faults.count());
        faults.print();
        return faults.count() == 0;
    }

    /** Of each client its figures, each as median / maximum. */
    private static void printSummary(String kind, Map<String, List<Double>> figures) {
        Map<String, List<String>> byClient = new LinkedHashMap<>();
        figures.forEach((name, values) -> {
            double[] sorted = values.stream().mapToDouble(value -> value).sorted().toArray();
            String client = name.substring(0, name.indexOf(' '));
            String figure = name.substring(name.indexOf(' ') + 1);
            String median = Figures.shown(figure, sorted[sorted.length / 2]);
            String most = Figures.shown(figure, sorted[sorted.length - 1]);
            byClient.computeIfAbsent(client, added -> new ArrayList<>()).add(figure + " " + median + " / " + most);
        });
        int kills = figures.values().iterator().next().size();
        byClient.forEach((client, shown) ->
            System.out.printf("%d kills of the %s, median / most: %s: %s%n", kills, kind, client, String.join(", ", shown)));
    }
}
