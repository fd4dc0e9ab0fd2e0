import java.util.List;

/** A member of a share group that takes what there is, says so, and does nothing until it is killed. */
public final class Victim implements Door.Case {
    @Override
    public void run(Door door) throws Exception {
        var member = new Shares.Member(door, "shares-killed", "explicit", "shared-killed");
        while (member.read.size() < 5) {
            member.poll();
        }
        System.out.println("has");
        System.out.flush();
        Thread.sleep(600_000);
    }
}
